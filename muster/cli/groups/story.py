"""A failover group for people: one line, one picture, and its history as sentences. Pure, but for the ages."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from muster.cli.table import TableColumn, coloured, columns
from muster.cli.text import age, instant, short_type
from muster.client.rows import Row as Data
from muster.wire.groups.answers import GroupState, MemberState
from muster.wire.registry.answers import Event

if TYPE_CHECKING:
    from rich.text import Text

_SIDE_CHARS: Final = 200
_COLOURS: Final = {"active": "green", "recovering": "yellow", "failed": "red", "inactive": ""}


def _since(row: GroupState | MemberState) -> str:
    return "" if row.since is None else age(row.since)


def _amiss(row: GroupState) -> "Text":
    marks = [mark for mark, is_so in (("paused", row.paused), ("fencing", row.fenced)) if is_so]
    text = "; ".join([*marks, row.degraded or ""] if row.degraded else marks) or "ok"
    return coloured(_brief(text), "green" if text == "ok" else "red" if row.primary is None else "yellow")


def _brief(text: str) -> str:
    """The text without its middle, if it is long: a list of groups is no place for all that a hook has put out."""
    return text if len(text) <= 2 * _SIDE_CHARS else f"{text[:_SIDE_CHARS]} … {text[-_SIDE_CHARS:]}"


def _standing(row: GroupState) -> str:
    ready = sum(member.status == "active" for member in row.members)
    return f"{ready}/{len(row.members)}"


GROUPS: Final[list[TableColumn[GroupState]]] = columns(
    "group",
    "primary",
    "address",
    "epoch",
    TableColumn("SINCE", _since),
    TableColumn("ACTIVE", _standing),
    TableColumn("STATE", _amiss),
)
MEMBERS: Final[list[TableColumn[MemberState]]] = columns(
    "member",
    "role",
    TableColumn("STATUS", lambda row: coloured(row.status, _COLOURS.get(row.status, ""))),
    TableColumn("SINCE", _since),
    "priority",
    "address",
    "position",
    TableColumn("WHY", lambda row: row.suspect or row.why),
)


def line(row: GroupState) -> str:
    """The group in one line."""
    leads = f"{row.primary} leads with epoch {row.epoch}" if row.primary else f"nobody leads, after epoch {row.epoch}"
    members = ", ".join(f"{member.member} {member.status}" for member in row.members)
    return f"{row.group}: {leads}; {row.degraded or 'ok'} ({members})"


def about(row: GroupState) -> list[str]:
    """What there is to say of the group beside its members."""
    leads = f"{row.primary} leads with epoch {row.epoch}" if row.primary else f"nobody leads, after epoch {row.epoch}"
    since = f" since {instant(row.since)}" if row.since else ""
    # What decides the next failover, in one line: it is read when something goes wrong.
    rules = [
        f"failed after {row.threshold} missed heartbeats of {row.heartbeat_seconds:g} s",
        f"lease {row.lease_seconds:g} s",
        f"a failover turns back after {row.failover_seconds:g} s",
        f"fencing: {_fencing(row)}",
    ]
    if row.max_lag is not None:
        rules.append(f"at most {row.max_lag} behind")
    if row.synchronous:
        rules.append(f"in sync: {', '.join(row.in_sync) or 'nobody yet'} (version {row.in_sync_version})")
    if row.preempt:
        rules.append("priority preempts")
    said = [f"{row.group}: {leads}{since}", f"rules: {'; '.join(rules)}"]
    said += [f"amiss: {row.degraded}"] if row.degraded else []
    said += ["paused: failovers begin only when an operator asks"] if row.paused else []
    said += [f"under way: {row.failover}"] if row.failover else []
    # Never in passing: with this setting two primaries are possible, and whoever looks at the group should know.
    said += (
        ["WARNING: unfenced: a failover does not wait until the primary has ended"] if row.fencing == "unfenced" else []
    )
    return said


def _fencing(row: GroupState) -> str:
    able = ", ".join(member.member for member in row.members if member.fences) or "nobody"
    return (
        f"hook ({able} can; {row.fencer} is to)"
        if row.fencer
        else f"hook ({able} can)"
        if row.fencing == "hook"
        else row.fencing
    )


def sentence(event: Event) -> str:
    """What has happened, as one would tell it."""
    told = _TOLD.get(short_type(event.type))
    # Without the controllers' own name: the story is about members, and whoever else has done something stands out.
    by = f" (by {event.actor}{f': {event.reason}' if event.reason else ''})" if event.actor != "muster" else ""
    return f"{told(event.data) if told is not None else short_type(event.type)}{by}"


# Facts of the events by their names on the wire: a newer controller's event that is not known here is told by its type.
def _promoted(data: Data) -> str:
    over = "; ".join(f"{other['member']}: {other['why']}" for other in data["passed_over"])
    after = f" after {data['was']} ({data['ended'] or 'not proven to have ended'})" if data["was"] else ""
    lossy = ", though acknowledged writes may be missing there" if data["lossy"] else ""
    return f"{data['member']} is the primary of epoch {data['epoch']}{after}{lossy}" + (
        f"; passed over: {over}" if over else ""
    )


def _started(data: Data) -> str:
    wanted = f", to {data['to']}" if data["to"] else ""
    return f"a failover begins{wanted} ({data['cause']}): {data['evidence']}"


def _ended(data: Data) -> str:
    detail = f": {data['detail']}" if data["detail"] else ""
    return f"the failover {_OUTCOMES.get(data['outcome'], data['outcome'])}{detail}"


_OUTCOMES: Final = {
    "completed": "is over",
    "aborted": "was given up by an operator",
    "timeout": "was given up",
    "refused": "could not go on",
    "lost": "came to nothing",
}
_HOW: Final = {"said": "it said so", "seen": "its end was seen", "lease": "its lease is over", "hook": "it was fenced"}


def _over(data: Data) -> str:
    detail = f": {data['detail']}" if data["detail"] else ""
    return f"{data['member']} leads no more, {_HOW[data['how']]}{detail}"


_TOLD: Final[Mapping[str, Callable[[Data], str]]] = {
    "group.created": lambda data: f"the group is there, with a lease of {data['settings']['lease_seconds']:g} s",
    "group.settings_changed": lambda data: (
        "other rules hold: " + ", ".join(f"{k} {v}" for k, v in data["settings"].items())
    ),
    "group.deleted": lambda _: "the group is gone",
    "group.paused": lambda _: "failovers begin only when an operator asks",
    "group.resumed": lambda _: "failovers begin by themselves again",
    "group.member_added": lambda data: f"{data['member']} is a member, with priority {data['priority']}",
    "group.member_removed": lambda data: f"{data['member']} is no member any more",
    "group.member_joined": lambda data: f"{data['member']} is run by {data['process']}",
    "group.member_ready": lambda data: f"{data['member']} can lead",
    "group.member_failed": lambda data: f"{data['member']} has failed: {data['why']}",
    "group.member_recovering": lambda data: f"{data['member']} is heard again",
    "group.member_left": lambda data: f"{data['member']} has left",
    "group.member_suspected": lambda data: f"{data['member']} is suspected: {data['evidence']}",
    "group.member_trusted": lambda data: f"nothing is held against {data['member']} any more",
    "group.position_reported": lambda data: f"{data['member']}'s copy reaches {data['position']}",
    "group.fencing_failed": lambda data: f"{data['member']} could not fence {data['primary']}: {data['why']}",
    "group.in_sync_changed": lambda data: f"acknowledgements rest on {', '.join(data['in_sync'])} ({data['cause']})",
    "group.failover_started": _started,
    "group.fenced": lambda data: f"epoch {data['epoch']} is closed: its primary is to stop",
    "group.primary_ended": _over,
    "group.member_promoted": _promoted,
    "group.reclaimed": lambda data: f"{data['member']} goes on as the primary, with epoch {data['epoch']}",
    "group.serving": lambda data: f"{data['member']} serves with epoch {data['epoch']}",
    "group.failover_ended": _ended,
}
