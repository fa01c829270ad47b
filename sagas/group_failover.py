"""The saga that gives a failover group its next primary; stream `group/<name>/failover/<number>`.

It begins within the decision that makes it due, and all that it waits for is heard in the group's own state, within the decision
that brings it: so from the word that proves a primary's end to the promotion of the next one it is one batch of the log. Runners
see what is wanted of them in the group, as a level: the primary of a fenced epoch stops, the others say how far their copies
reach, the new primary starts.
"""

from datetime import UTC, datetime
from typing import Final

from domain.groups.choice import due, settings_of, unheard
from domain.groups.commands import (
    EndFailover,
    Failover,
    FenceGroup,
    PromoteMember,
    ReclaimGroup,
    StartFailover,
)
from domain.groups.fencing import fencer, tries
from domain.groups.state import FAILOVER_SECONDS, FailoverGroup
from domain.saga import Facts, Saga
from muster.wire.error import VerbNotAllowed
from muster.wire.sagas import TOOK_LONGER
from muster.wire.stream import FAILOVER, GROUP, name_of, root_of
from sagas.engine.definition import Action, Apply, Ask, Heard, Wait
from sagas.succession import Succession, succession

NAME: Final = "group_failover"
compare_seconds: Final = 2.0
"""How long a candidate may take to say how far its copy reaches; one that is silent is taken to be too far behind."""
activate_seconds: Final = 60.0
"""How long the new primary's hook is waited for. It goes on after that, and the group shows that it does not serve yet."""


def facts(command: Failover, saga_id: str, group: FailoverGroup) -> Facts | None:
    """What the failover is about; None: the group is led as wanted. Raises a refusal."""
    settings = settings_of(group)
    if group.failover is not None:
        if command.automatic:
            return None
        raise VerbNotAllowed(f"{group.failover} is under way; wait for its end, or abort it", allowed="")
    cause, evidence = "operator", "an operator asked for it"
    if command.automatic:
        # Whether enough time has passed was judged by whoever asks, who has a clock; what is due for ever is due here too.
        wanted = due(group, datetime.max.replace(tzinfo=UTC))
        if wanted is None:
            return None
        cause, evidence = wanted
    elif command.to is not None and command.to == group.ownership.holder:
        return None
    return {
        "group": name_of(saga_id),
        "epoch": group.ownership.epoch,
        "was": group.ownership.holder,
        "to": command.to,
        "accept_data_loss": command.accept_data_loss,
        "cause": cause,
        "evidence": evidence[:1_024],
        "failover_seconds": settings.failover_seconds,
    }


def begins(group: FailoverGroup) -> Failover | None:
    """The failover that is due now, and would be at any other time: what is proven, and what needs nobody's patience."""
    return Failover(automatic=True) if due(group, datetime.min.replace(tzinfo=UTC)) is not None else None


def _seconds(saga: Saga) -> float:
    # Pinned when it began; failovers of before the setting have none.
    seconds: float = saga.data.get("failover_seconds", FAILOVER_SECONDS)
    return seconds


def _step(saga: Saga) -> Facts:
    """What all steps at the group carry."""
    return {"failover": saga.id, "epoch": saga.data["epoch"]}


def _wish(saga: Saga) -> Facts:
    return {"to": saga.data["to"], "accept_data_loss": saga.data["accept_data_loss"]}


def _take(saga: Saga) -> tuple[Action, ...]:
    why = {"cause": saga.data["cause"], "evidence": saga.data["evidence"]}
    return (Apply(StartFailover(**_step(saga), **_wish(saga), **why)),)


def _close(saga: Saga) -> tuple[Action, ...]:
    # The fence is in the log before anybody acts on it: from here on the primary's renewals are refused, so its lease will end.
    return (Apply(FenceGroup(**_step(saga))),)


def _fence(saga: Saga) -> tuple[Action, ...]:
    def heard(group: FailoverGroup) -> Heard | None:
        own = group.ownership
        unfenced = group.settings is not None and group.settings.fencing == "unfenced"
        if own.epoch == saga.data["epoch"] and own.holder is not None and not unfenced:
            return None
        # Nobody: there has been no primary yet, so there was nothing to prove.
        return Heard(result={"ended": own.ended or ("nobody" if own.owner is None else "unfenced")})

    return (Ask(root_of(saga.id), heard=heard, waits=_waits_for_end),)


def _waits_for_end(group: FailoverGroup) -> str:
    waits = f"{group.ownership.holder} to stop, or for its lease of {group.lease_seconds:g} s to run out"
    by = fencer(group)
    if by is None:
        return waits
    failed = tries(by, group.ownership.epoch)
    return f"{by.name} to fence {group.ownership.holder}{f' ({failed} times in vain)' if failed else ''}; {waits}"


def _compare(saga: Saga) -> tuple[Action, ...]:
    def heard(group: FailoverGroup) -> Heard | None:
        # A group that was deleted meanwhile is waited for no more; what comes next is refused there.
        late = group.settings is not None and unheard(group)
        return Heard(result={"positions": _positions(group)}) if not late else None

    def waits(group: FailoverGroup) -> str:
        return f"{', '.join(unheard(group))} to say how far their copies reach"

    return Ask(root_of(saga.id), heard=heard, waits=waits), Wait("candidates may be silent", seconds=compare_seconds)


def _positions(group: FailoverGroup) -> dict[str, int]:
    # In one order, so that every controller says it in the same words: that of the map is another one in each process.
    members = sorted(group.members.items())
    return {name: member.position for name, member in members if member.position is not None}


def _promote(saga: Saga) -> tuple[Action, ...]:
    return (Apply(PromoteMember(**_step(saga), **_wish(saga))),)


def _reclaim(saga: Saga) -> tuple[Action, ...]:
    return (Apply(ReclaimGroup(**_step(saga))),)


def _activate(saga: Saga) -> tuple[Action, ...]:
    epoch = saga.data["epoch"] + 1

    def heard(group: FailoverGroup) -> Heard | None:
        own = group.ownership
        if own.epoch == epoch and own.holder is not None and not group.serving:
            return None
        return Heard(result={"serving": own.epoch == epoch and group.serving})

    def waits(group: FailoverGroup) -> str:
        return f"{group.ownership.holder} to serve: its promote hook is not done"

    return Ask(root_of(saga.id), heard=heard, waits=waits), Wait("the promote hook takes its time", activate_seconds)


def _complete(saga: Saga) -> tuple[Action, ...]:
    # Lost: the new primary has ended before it served. The next failover is due by that alone.
    lost = saga.results.get("activate", {}).get("serving") is False
    detail = "the new primary ended before it served" if lost else ""
    return (Apply(EndFailover(**_step(saga), outcome="lost" if lost else "completed", detail=detail)),)


def _abandon(saga: Saga) -> tuple[Action, ...]:
    cause = saga.cause or "it was given up"
    outcome = "aborted" if cause == "aborted" else "timeout" if TOOK_LONGER in cause else "refused"
    return (Apply(EndFailover(**_step(saga), outcome=outcome, detail=cause[:1_024])),)


GROUP_FAILOVER: Final = succession(
    Succession(
        name=NAME,
        saga=FAILOVER,
        root=GROUP,
        start=Failover,
        number=lambda group: group.failovers + 1,
        facts=facts,
        begins=begins,
        seconds=_seconds,
        take=_take,
        abandon=_abandon,
        close=_close,
        reclaim=_reclaim,
        fence=_fence,
        compare=_compare,
        promote=_promote,
        activate=_activate,
        complete=_complete,
    )
)
