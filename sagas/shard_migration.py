"""The saga that moves a shard to another node while it is written to.

    plan ▸ reserve ▸ intend ▸ prepare ▸ copy ▸ catch_up ▸ verify ▸ gate ▸ close ▸ fence ▸ drain ▸ COMMIT ▸ activate ▸ publish ▸
    release ▸ soak ▸ clean ▸ complete                             undone, from the end: reclaim, reactivate ▸ discard ▸
                                                                  unreserve ▸ abandon
From `close` to the commit the shard takes no writes; that stretch is bounded by the definition's window.

The source stops in one of two ways. Either it confirms the fence (`fence`), or its lease runs out and an event after the fence
in the log attests that: then it compares itself with the shard map before it acknowledges anything again (invariant I5). In
both cases its last changes are drained from its disk before the commit. So while the source stays away, the move is not
committed, and no write that it has acknowledged is lost.
The commit is a compare-and-set on the shard's epoch, as is the abort's `reclaim`: not both can win.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from domain.saga import Saga
from domain.shards.cluster import Cluster
from domain.shards.keyspace import (
    CommitMove,
    EndMove,
    FenceShard,
    IntendCleanup,
    MoveShard,
    ReclaimShard,
    StartMove,
    shard_for,
)
from domain.shards.node import AttestSilence, ReleaseSlots, ReserveSlots
from domain.shards.shard import Keyspace
from muster.wire.stream import CLUSTER, KEYSPACE, name_of
from sagas.engine.definition import Action, Apply, Ask, Definition, Delegate, Heard, Step, Wait
from sagas.waited_slot import waited_slot

NAME: Final = "shard_migration"
cutover_seconds: Final = 10.0
copy_timeout_seconds: Final = 30.0


def facts(command: MoveShard, saga_id: str, keyspace: Keyspace) -> Mapping[str, Any] | None:
    """What the saga is about, fixed when it starts; None: the shard is there already, or on its way. Raises a refusal."""
    shard = shard_for(command, keyspace)
    # A shard that is being moved counts as being where it goes: to ask for the same move again is no fault.
    if command.target == (shard.target or shard.owner):
        return None
    return {
        "keyspace": name_of(saga_id),
        "shard": shard.id,
        "epoch": shard.epoch,
        "source": shard.owner,
        "target": command.target,
        # Copied, so that what the saga wants follows from its own state; a keyspace's limits never change.
        "limits": {
            "value_bytes_max": keyspace.limits.value_bytes_max,
            "shard_bytes_max": keyspace.limits.shard_bytes_max,
        },
        "bytes_per_second": command.bytes_per_second,
        "hold": command.hold,
        "not_before": command.not_before.isoformat() if command.not_before else None,
        "soak_seconds": command.soak_seconds,
        "cleanup_seconds": command.cleanup_seconds,
        # With the plan and not looked up later: what was known then of the loads of shards is nowhere else.
        **({} if command.weighed is None else {"weighed": asdict(command.weighed)}),
    }


def _move(saga: Saga) -> dict[str, Any]:
    """What all commands of this move to its keyspace carry."""
    return {"shard": saga.data["shard"], "migration": saga.id, "epoch": saga.data["epoch"]}


def _task(saga: Saga, role: str, kind: str, *, epoch: int = 0, assist: bool = False, **params: Any) -> Delegate:
    """A task of this move; `epoch` counts from the shard's when the move was planned."""
    about = {"keyspace": saga.data["keyspace"], "shard": saga.data["shard"], "epoch": saga.data["epoch"] + epoch}
    return Delegate(saga.data[role], kind, {**about, **params}, assist)


def _unless_removed(saga: Saga, role: str) -> Ask:
    """Give up when the node has left the cluster for good."""
    node = saga.data[role]

    def heard(cluster: Cluster) -> Heard | None:
        return Heard(error=f"data node {node} has been removed") if node in cluster.removed else None

    return Ask(CLUSTER, heard=heard)


def _content_with_removal(saga: Saga, role: str) -> Ask:
    """A node that has left the cluster for good has nothing left to undo."""
    node = saga.data[role]

    def heard(cluster: Cluster) -> Heard | None:
        return Heard(result={"removed": node}) if node in cluster.removed else None

    return Ask(CLUSTER, heard=heard)


def _plan(saga: Saga) -> tuple[Action, ...]:
    return (Apply(StartMove(**_move(saga), target=saga.data["target"])),)


def _abandon(saga: Saga) -> tuple[Action, ...]:
    # It may have been skipped, or answered by the node's removal. Then the intent to clean up falls due.
    discarded = "discard" in saga.results and "removed" not in saga.results["discard"]
    return (Apply(EndMove(**_move(saga), outcome="aborted", cleaned=discarded)),)


def _reserve(saga: Saga) -> tuple[Action, ...]:
    id_ = saga.id

    def heard(cluster: Cluster) -> Heard | None:
        return Heard(result={}) if id_ in cluster.held else None

    # Decisive: when the target is cordoned or unknown, the move fails and does not wait for that to change. A grant may
    # come much later, and is seen in the cluster's state.
    wanted = ReserveSlots(saga=id_, source=saga.data["source"], target=saga.data["target"])
    return (
        Ask(CLUSTER, wanted, heard, decisive=True, waits=lambda cluster: waited_slot(id_, cluster)),
        _unless_removed(saga, "target"),
    )


def _release(saga: Saga) -> tuple[Action, ...]:
    return (Ask(CLUSTER, ReleaseSlots(saga=saga.id)),)


def _intend(saga: Saga) -> tuple[Action, ...]:
    return (Apply(IntendCleanup(**_move(saga), node=saga.data["target"])),)


def _prepare(saga: Saga) -> tuple[Action, ...]:
    return _task(saga, "target", "prepare", epoch=1), _unless_removed(saga, "target")


def _discard(saga: Saga) -> tuple[Action, ...]:
    return _task(saga, "target", "drop", epoch=1), _content_with_removal(saga, "target")


def _pull(kind: str, **more: Any) -> Any:
    def act(saga: Saga) -> tuple[Action, ...]:
        pulling = _task(
            saga,
            "target",
            kind,
            epoch=1,
            source=saga.data["source"],
            bytes_per_second=saga.data["bytes_per_second"],
            **more,
        )
        return pulling, _unless_removed(saga, "target"), _unless_removed(saga, "source")

    return act


def _gate(saga: Saga) -> tuple[Action, ...]:
    if saga.data["not_before"] is not None:
        opens_at = datetime.fromisoformat(saga.data["not_before"])
        return (Wait("the maintenance window has not begun", until=opens_at),)
    if saga.data["hold"]:
        return (Wait("it is held for an operator to resume"),)
    return (Wait("nothing", seconds=0),)


def _close(saga: Saga) -> tuple[Action, ...]:
    # The fence is in the log before the source is asked: so a silence that is attested to this move comes after the fence.
    return (Apply(FenceShard(**_move(saga))),)


def _fence(saga: Saga) -> tuple[Action, ...]:
    id_, source = saga.id, saga.data["source"]

    def heard(cluster: Cluster) -> Heard | None:
        return Heard(result={"silent": source}) if cluster.silences.get(id_) == source else None

    # Either is enough: the source's confirmation, or the proof that its lease is over.
    return _task(saga, "source", "fence"), Ask(CLUSTER, AttestSilence(node=source, saga=id_), heard)


def _reclaim(saga: Saga) -> tuple[Action, ...]:
    return (Apply(ReclaimShard(**_move(saga))),)


def _reactivate(saga: Saga) -> tuple[Action, ...]:
    limits = saga.data["limits"]
    return _task(saga, "source", "activate", epoch=1, limits=limits), _content_with_removal(saga, "source")


def _drain(saga: Saga) -> tuple[Action, ...]:
    final = saga.results["fence"].get("extent")
    draining = _task(saga, "target", "drain", epoch=1, source=saga.data["source"], final=final)
    # A source whose silence was attested has yet to mark the end of its changes.
    fencing = () if final else (_task(saga, "source", "fence", assist=True),)
    return (draining, *fencing, _unless_removed(saga, "target"))


def _drained(saga: Saga, result: Mapping[str, Any]) -> str | None:
    """Why the target must not take over: it does not hold what the source's fence said."""
    final, got = saga.results["fence"].get("extent"), result.get("extent")
    if not isinstance(got, dict):
        return "the target's answer lacks its extent"
    # A silent source has named no end that could be compared.
    if final is not None and (final["position"], final["digest"]) != (got.get("position"), got.get("digest")):
        return f"the target drained to {got}, but the source ended at {final}"
    return None


def _fenced(_saga: Saga, result: Mapping[str, Any]) -> str | None:
    extent = result.get("extent")
    if "silent" in result or (isinstance(extent, dict) and {"position", "digest"} <= extent.keys()):
        return None
    return "the source's answer lacks its final extent"


def _commit(saga: Saga) -> tuple[Action, ...]:
    return (Apply(CommitMove(**_move(saga), target=saga.data["target"])),)


def _activate(saga: Saga) -> tuple[Action, ...]:
    limits = saga.data["limits"]
    # Never skippable: until the target serves, the source's copy is the only other one. A removed target blocks this step.
    return _task(saga, "target", "activate", epoch=1, limits=limits), _unless_removed(saga, "target")


def _publish(saga: Saga) -> tuple[Action, ...]:
    retiring = _task(saga, "source", "retire", epoch=1, owner=saga.data["target"])
    return retiring, _content_with_removal(saga, "source")


def _soak(saga: Saga) -> tuple[Action, ...]:
    seconds = saga.data["soak_seconds"] + saga.data["cleanup_seconds"]
    return (Wait("the source's copy is kept for a while", seconds=seconds),)


def _clean(saga: Saga) -> tuple[Action, ...]:
    # With the epoch from before the move: a copy with which the shard may come back later is not meant.
    return _task(saga, "source", "drop"), _content_with_removal(saga, "source")


def _complete(saga: Saga) -> tuple[Action, ...]:
    cleaned = "clean" in saga.results and "removed" not in saga.results["clean"]
    return (Apply(EndMove(**_move(saga), outcome="completed", cleaned=cleaned)),)


_NOTHING_LEFT: Final = "it only fills the target's hidden copy, which the undoing of `prepare` discards"
# Attempts. Even if each of them fails at once, the pauses of 1 to 2 seconds make this more than two weeks.
_FOR_EVER: Final = 1_000_000


def _steadily(name: str, act: Any, **more: Any) -> Step:
    """A step that is tried again until it is done: nothing else would be right any more."""
    return Step(name, act, attempts_max=_FOR_EVER, timeout_seconds=5.0, backoff_seconds_max=2.0, **more)


SHARD_MIGRATION: Final = Definition(
    NAME,
    1,
    (
        Step("plan", _plan, undo=(Step("abandon", _abandon),)),
        # Others are before it in the queue, so an attempt cannot be late. After five minutes it counts as stalled.
        Step(
            "reserve", _reserve, undo=(_steadily("unreserve", _release),), timeout_seconds=None, stalled_seconds=300.0
        ),
        Step("intend", _intend, harmless="the intent is settled when the move ends, whatever its outcome"),
        Step("prepare", _prepare, undo=(Step("discard", _discard, skippable=True),)),
        Step(
            "copy", _pull("copy"), harmless=_NOTHING_LEFT, timeout_seconds=copy_timeout_seconds, stalled_seconds=3_600.0
        ),
        Step("catch_up", _pull("catch_up"), harmless=_NOTHING_LEFT, stalled_seconds=600.0),
        Step("verify", _pull("verify"), harmless=_NOTHING_LEFT, timeout_seconds=600.0, attempts_max=2),
        Step("gate", _gate, harmless="it only waits", skippable=True),
        Step("close", _close, harmless="the undoing of `fence` reclaims the shard", pausable=False),
        Step(
            "fence",
            _fence,
            # In this order: the source may serve again only with the epoch that the log has given back to it.
            undo=(Step("reclaim", _reclaim), _steadily("reactivate", _reactivate)),
            pausable=False,
            timeout_seconds=None,
            check=_fenced,
        ),
        Step("drain", _drain, harmless=_NOTHING_LEFT, pausable=False, timeout_seconds=5.0, check=_drained),
        Step("commit", _commit, pivot=True, pausable=False),
        _steadily("activate", _activate),
        _steadily("publish", _publish, skippable=True),
        _steadily("release", _release),
        Step("soak", _soak, skippable=True),
        _steadily("clean", _clean, skippable=True),
        Step("complete", _complete),
    ),
    window="close",
    window_seconds=cutover_seconds,
    saga="migration",
    root=KEYSPACE,
    start=MoveShard,
    number=lambda keyspace: keyspace.moves + 1,
    facts=facts,
)
