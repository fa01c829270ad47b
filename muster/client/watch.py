"""The instances that a watcher holds, and how events change them. Pure; `muster.client.event_stream` does the reading.

snapshot  the first one is yielded; a later one (after a reset) is compared with the instances held, and only the
          differences are yielded
delta     put, patch and remove; one that is no newer than the instance held is skipped
traffic   how the service's clients are to spread their calls; told again after each new connection, yielded when it is new
reset     the controller cannot resume where this watch was: a snapshot follows; if the log is another one, no traffic is set
          until it is told behind that
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import orjson

from muster.wire.error import Transient
from muster.wire.registry.answers import INSTANCE, Instance
from muster.wire.registry.traffic import POLICIES, SETTINGS, TRAFFIC, Traffic

_Key = tuple[str, str]
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All instances as the watch begins; always first, and only once."""

    instances: tuple[Instance, ...]
    token: str


@dataclass(frozen=True, slots=True)
class Appeared:
    """An instance has been registered."""

    instance: Instance
    token: str


@dataclass(frozen=True, slots=True)
class Changed:
    """An instance has changed: how it is now and how it was before; `fields` names the differences."""

    instance: Instance
    before: Instance
    token: str

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that differ, without version and position."""
        names = (field.name for field in fields(Instance) if field.name not in ("version", "position"))
        return frozenset(name for name in names if getattr(self.instance, name) != getattr(self.before, name))


@dataclass(frozen=True, slots=True)
class Removed:
    """An instance is gone: how it was at last, and why (None: it left while no controller could be reached)."""

    instance: Instance
    cause: str | None
    token: str


Change = Snapshot | Appeared | Changed | Removed


@dataclass(frozen=True, slots=True)
class TrafficSet:
    """An operator has set how the clients of the service spread their calls, now or before the watch began.

    With nothing given, and version 0, it takes back what was told before: the log is another one, that knows nothing of it.
    """

    traffic: Traffic
    token: str


class OutOfStep(Transient):
    """A patch for an instance that is not held, or a change that is unknown here: the watch must begin anew."""


_OPERATIONS: Final = ("put", "patch", "remove")


@dataclass(frozen=True, slots=True)
class _Held:
    """An instance as it came, for patching, and as it is handed out."""

    raw: dict[str, Any]
    instance: Instance


class Follower:
    """The instances of a watch, as of its newest event."""

    def __init__(self) -> None:
        self._held: dict[_Key, _Held] = {}
        self._begun = False

    def take(self, event: str, data: bytes, token: str) -> Iterator[Change]:
        """The changes that one event of the wire brings. Raises OutOfStep."""
        if event == "snapshot":
            yield from self._snapshot(orjson.loads(data)["items"], token)
        elif event == "delta":
            for change in orjson.loads(data)["changes"]:
                yield from self._delta(change, token)

    def _snapshot(self, items: Iterable[dict[str, Any]], token: str) -> Iterator[Change]:
        before, self._held = self._held, {}
        for raw in items:
            held = before.get(_key(raw))
            # What has not changed keeps its object: further down, another object means that the instance has changed.
            same = held is not None and held.raw == raw
            self._held[_key(raw)] = held if same and held is not None else _hold(raw)
        if not self._begun:
            self._begun = True
            yield Snapshot(tuple(held.instance for held in self._held.values()), token)
            return
        for key, held in before.items():
            if key not in self._held:
                yield Removed(held.instance, None, token)
        for key, held in list(self._held.items()):
            known = before.get(key)
            if known is None:
                yield Appeared(held.instance, token)
            elif known is not held:
                yield Changed(held.instance, known.instance, token)

    def _delta(self, change: dict[str, Any], token: str) -> Iterator[Change]:
        # What a newer controller says in another way, its snapshot says in the old one.
        if change["op"] not in _OPERATIONS:
            raise OutOfStep(f"{change['op']!r} is no change of an instance here")
        raw = change["item"] if change["op"] == "put" else change
        key, held = _key(raw), self._held.get(_key(raw))
        # What comes may overlap with what is held; an older change must not take the instance back.
        if held is not None and raw["position"] <= held.instance.position:
            return
        if change["op"] == "remove":
            if held is not None:
                del self._held[key]
                yield Removed(held.instance, change.get("cause"), token)
            return
        after = self._held[key] = _hold(raw if change["op"] == "put" else _patched(held, change))
        yield Changed(after.instance, held.instance, token) if held is not None else Appeared(after.instance, token)


class TrafficFollower:
    """As `Follower`, and the traffic of the one service that is watched."""

    def __init__(self) -> None:
        self._instances = Follower()
        self._traffic: Traffic | None = None

    def take(self, event: str, data: bytes, token: str) -> Iterator[Change | TrafficSet]:
        """The changes that one event of the wire brings. Raises OutOfStep."""
        if event == "reset" and self._traffic is not None and is_other_log(data):
            # Where something is set in that log too, it is told behind the snapshot. Where nothing is, nothing would ever come.
            nothing = replace(self._traffic, **dict.fromkeys(SETTINGS), version=0)  # type: ignore[arg-type]
            yield TrafficSet(nothing, token)
            self._traffic = None
        if event != "traffic":
            yield from self._instances.take(event, data, token)
            return
        found = TRAFFIC.one.validate_json(data)
        # Told again with each connection, since it may have changed while there was none.
        if found == self._traffic:
            return
        self._traffic = found
        if found.policy not in (None, *POLICIES):
            _LOG.warning(
                "there is no policy %r here: the traffic of %s goes by another one", found.policy, found.service
            )
        yield TrafficSet(found, token)


def is_other_log(data: bytes) -> bool:
    """Whether a `reset` says that the log is another one than that of all that came before."""
    return bool(data) and orjson.loads(data).get("reason") == "other_log"


def _patched(held: _Held | None, change: dict[str, Any]) -> dict[str, Any]:
    if held is None:
        raise OutOfStep(f"a patch for {change['service']}/{change['instance']}, which is not held")
    return {**held.raw, **change["set"], "version": change["version"], "position": change["position"]}


def _hold(raw: dict[str, Any]) -> _Held:
    return _Held(raw, INSTANCE.validate_python(raw))


def _key(raw: dict[str, Any]) -> _Key:
    return raw["service"], raw["instance"]
