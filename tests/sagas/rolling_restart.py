"""A second, tiny saga: restart an instance with another release, out of traffic, and take it back if that goes wrong.

    fetch ▸ approve ▸ quiesce ▸ restart ▸ ANNOUNCE ▸ warm_up ▸ observe ▸ admit     undone, from the end: revert, settle ▸ readmit

`RESTART` has moreover what a controller's catalogue needs: a command that starts it, and a first step that its root records.
It shows all that an author writes: data, and pure functions of the saga. Its root is a service; its participant is a host.
"""

from collections.abc import Mapping
from typing import Any, Final

from domain.registry import service
from domain.registry.service import ClearMaintenance, DrainInstance, RegisterInstance, SetMaintenance, UndrainInstance
from domain.saga import Saga
from domain.shards.cluster import Cluster
from muster.wire.command import Command
from muster.wire.error import InstanceNotFound
from muster.wire.registry.spec import Spec
from muster.wire.stream import CLUSTER, SERVICE, Name
from sagas.engine.course import Root
from sagas.engine.definition import Action, Apply, Ask, Definition, Definitions, Delegate, Heard, Step, Wait, table
from tests.sagas.story import root

NAME: Final = "rolling_restart"


def facts(
    instance: str, host: str, address: str, port: int, was: str, release: str, hold: bool = False
) -> dict[str, Any]:
    """What the saga is about: the instance runs the release `was` on the host, and is to run `release`."""
    return {
        "instance": instance,
        "host": host,
        "address": address,
        "port": port,
        "was": was,
        "release": release,
        "hold": hold,
    }


def _task(saga: Saga, kind: str, release: str) -> Delegate:
    return Delegate(saga.data["host"], kind, {"instance": saga.data["instance"], "release": release})


def _fetch(saga: Saga) -> tuple[Action, ...]:
    host = saga.data["host"]

    def heard(cluster: Cluster) -> Heard | None:
        return Heard(error=f"{host} is gone") if host in cluster.removed else None

    gone = Ask(CLUSTER, heard=heard)
    return _task(saga, "fetch", saga.data["release"]), gone


def _approve(saga: Saga) -> tuple[Action, ...]:
    return (Wait("an operator has to approve"),) if saga.data["hold"] else (Wait("nothing", seconds=0),)


def _quiesce(saga: Saga) -> tuple[Action, ...]:
    return (Apply(SetMaintenance(instance=saga.data["instance"])),)


def _restart(saga: Saga) -> tuple[Action, ...]:
    spare = Delegate("spare", "take_over", {"instance": saga.data["instance"]}, assist=True)
    return _task(saga, "restart", saga.data["release"]), spare


def _runs(saga: Saga, result: Mapping[str, Any]) -> str | None:
    """Why the instance is not what it should be."""
    runs = result.get("release")
    return None if runs == saga.data["release"] else f"it runs {runs}, not {saga.data['release']}"


def _revert(saga: Saga) -> tuple[Action, ...]:
    return (_task(saga, "restart", saga.data["was"]),)


def _announce(saga: Saga) -> tuple[Action, ...]:
    release = {"release": saga.data["release"]}
    spec = Spec(address=saga.data["address"], port=saga.data["port"], metadata=release)
    return (Apply(RegisterInstance(instance=saga.data["instance"], spec=spec)),)


def _warm_up(saga: Saga) -> tuple[Action, ...]:
    return (_task(saga, "warm_up", saga.data["release"]),)


def _clear(saga: Saga) -> tuple[Action, ...]:
    return (Apply(ClearMaintenance(instance=saga.data["instance"])),)


_FETCH: Final = Step("fetch", _fetch, harmless="a release on a disk disturbs nobody", attempts_max=3)
_APPROVE: Final = Step("approve", _approve, harmless="it only waits", skippable=True)
_QUIESCE: Final = Step("quiesce", _quiesce, undo=(Step("readmit", _clear),), pausable=False)
_RESTART: Final = Step(
    "restart",
    _restart,
    undo=(
        Step("revert", _revert, attempts_max=2, skippable=True),
        Step("settle", lambda _: (Wait("the caches fill", seconds=5.0),)),
    ),
    pausable=False,
    check=_runs,
)
_ANNOUNCE: Final = Step("announce", _announce, pivot=True, pausable=False)
_WARM_UP: Final = Step("warm_up", _warm_up, attempts_max=2, skippable=True)
_OBSERVE: Final = Step("observe", lambda _: (Wait("whether it stays up", seconds=60.0),), skippable=True)
_ADMIT: Final = Step("admit", _clear)

V1: Final = Definition(
    NAME,
    1,
    (_FETCH, _APPROVE, _QUIESCE, _RESTART, _ANNOUNCE, _WARM_UP, _OBSERVE, _ADMIT),
    window="quiesce",
    window_seconds=20.0,
    saga="restart",
)
V2: Final = Definition(
    NAME,
    2,
    (
        _FETCH,
        _APPROVE,
        Step("snapshot", lambda saga: (_task(saga, "snapshot", saga.data["was"]),), harmless="only a file"),
        _QUIESCE,
        _RESTART,
        _ANNOUNCE,
        _OBSERVE,
        _ADMIT,
    ),
    window="quiesce",
)
"""A later version: it takes a snapshot first, and needs no warming up."""


class RestartInstance(Command):
    """Have the instance, which runs on the host, run this release."""

    type = "muster.test.restart_instance.v1"
    instance: Name
    host: Name
    release: str
    hold: bool = False


def _started(command: RestartInstance, _saga: str, root: service.Service) -> Mapping[str, Any] | None:
    """The facts of a new restart; None: the instance runs this release, or is on its way out of traffic."""
    found = root.instances.get(command.instance)
    if found is None:
        raise InstanceNotFound(f"there is no instance {command.instance}", instance=command.instance)
    was = found.spec.metadata["release"]
    if command.release == was or found.draining:
        return None
    return facts(found.id, command.host, found.spec.address, found.spec.port, was, command.release, command.hold)


def _drain(saga: Saga) -> tuple[Action, ...]:
    return (Apply(DrainInstance(instance=saga.data["instance"])),)


def _undrain(saga: Saga) -> tuple[Action, ...]:
    return (Apply(UndrainInstance(instance=saga.data["instance"])),)


RESTART: Final = Definition(
    NAME,
    1,
    (Step("drain", _drain, undo=(Step("undrain", _undrain),)), *V1.steps, Step("welcome", _undrain)),
    window="quiesce",
    window_seconds=20.0,
    saga="restart",
    root=SERVICE,
    start=RestartInstance,
    # Of the same service no two restarts can begin at the same version: the first step of each makes an event.
    number=lambda root: root.version + 1,
    facts=_started,
)
"""What a controller would have in its catalogue."""

DEFINITIONS: Final[Definitions] = table(V1)
LATER: Final[Definitions] = table(V1, V2)


def root_of(state: service.Service) -> Root:
    """The service as the saga's root."""
    return root("service/orders", state, service)
