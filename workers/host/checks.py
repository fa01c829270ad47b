"""The checks of a host's instances, run beside them by the controller's own checker; what they come to is one health each."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

from domain.registry.instance import Instance
from domain.registry.observation import ObserveCheck
from domain.registry.status import CheckStatus
from muster.wire.registry.check import Health, worst
from muster.wire.stream import name_of, service_stream
from workers.health.checker import Checker
from workers.host.config import HostInstance, Key

_UNKNOWN: Final = "not checked yet"


class LocalHealth(NamedTuple):
    """How an instance is, and why."""

    status: Health
    cause: str | None


class LocalChecks:
    """Runs the checks of the instances that it is given. `changed` is called when the health of one is another."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._instances: dict[Key, Instance] = {}
        self._checker = Checker(self._observe)

    async def run(self) -> None:
        """Run checks until cancelled."""
        await self._checker.run()

    def keep(self, wanted: HostInstance) -> None:
        """Check the instance so from now on; what was found out by checks that stay as they were is kept."""
        key, now = (wanted.service, wanted.instance), datetime.now(UTC)
        before = self._instances.get(key)
        known = {} if before is None else {check.name: check for check in before.spec.checks}
        statuses = {
            check.name: before.checks[check.name]
            if before is not None and known.get(check.name) == check
            else CheckStatus("unknown", _UNKNOWN, now)
            for check in wanted.checks
        }
        # The checker knows instances as the log has them; here nobody else decides about them.
        instance = Instance(
            id=wanted.instance,
            service=wanted.service,
            spec=replace(wanted.spec, checks=wanted.checks),
            incarnation=0,
            version=0,
            health="unknown",
            cause=None,
            health_since=now,
            checks=statuses,
            registered_at=now,
            position=0,
        )
        self._sync(key, instance)

    def drop(self, key: Key) -> None:
        """Check it no more."""
        if self._instances.pop(key, None) is not None:
            self._checker.sync(service_stream(key[0]), key[1], None)

    def health(self, key: Key) -> LocalHealth | None:
        """How the instance is by its checks; None: it has none."""
        instance = self._instances.get(key)
        if instance is None or not instance.checks:
            return None
        status = worst([found.status for found in instance.checks.values()])
        because = [f"{name}: {found.cause}" for name, found in instance.checks.items() if found.status == status]
        return LocalHealth(status, "; ".join(because))

    def _sync(self, key: Key, instance: Instance) -> None:
        self._instances[key] = instance
        self._checker.sync(service_stream(key[0]), key[1], instance)

    def _observe(self, stream: str, command: ObserveCheck) -> None:
        key = name_of(stream), command.instance
        # There is such a check: of a run that was under way when the files changed the checker tells nothing.
        instance = self._instances[key]
        found = CheckStatus(command.status, command.cause, command.at or datetime.now(UTC))
        self._sync(key, replace(instance, checks={**instance.checks, command.check: found}))
        self._changed()
