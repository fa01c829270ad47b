"""Histories in which something was changed, so that the checker of the log has to notice it."""

from collections.abc import Callable
from dataclasses import replace

from domain.message import Event, Recorded
from sagas.invariants.log import Invariants

Tamper = Callable[[Recorded], list[Recorded] | None]


def renumbered(history: list[Recorded]) -> list[Recorded]:
    """The history with versions that have no gaps: what is wrong with it is not that."""
    versions: dict[str, int] = {}
    told = []
    for recorded in history:
        versions[recorded.stream] = versions.get(recorded.stream, -1) + 1
        told.append(recorded._replace(version=versions[recorded.stream]))
    return told


def breaches(history: list[Recorded] | tuple[Recorded, ...]) -> list[str]:
    invariants = Invariants()
    return [breach for recorded in history for breach in invariants.take(recorded)]


def owed(history: list[Recorded] | tuple[Recorded, ...]) -> list[str]:
    invariants = Invariants()
    assert [breach for recorded in history for breach in invariants.take(recorded)] == []
    return invariants.owed()


def tampered(
    history: tuple[Recorded, ...], kind: type[Event], tamper: Tamper, step: str | None = None, *, latest: bool = False
) -> list[str]:
    """What the checker says when the first event of the kind (and step), or the `latest` one, has been replaced."""
    found = [
        index
        for index, recorded in enumerate(history)
        if isinstance(recorded.event, kind) and (step is None or getattr(recorded.event, "step", None) == step)
    ]
    at = found[-1 if latest else 0]
    instead = tamper(history[at]) or []
    return breaches(renumbered([*history[:at], *instead, *history[at + 1 :]]))


def without(_: Recorded) -> None:
    return None


def changed(**fields: object) -> Tamper:
    return lambda recorded: [recorded._replace(event=replace(recorded.event, **fields))]


def followed_by(*events: Event, stream: str | None = None) -> Tamper:
    def tamper(recorded: Recorded) -> list[Recorded]:
        return [recorded, *(recorded._replace(event=event, stream=stream or recorded.stream) for event in events)]

    return tamper
