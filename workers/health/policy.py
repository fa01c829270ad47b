"""What this controller takes of checks, by its settings: what `domain.registry.admission` leaves to the operator.

Judged before a registration is queued, whichever way it came. As there, what an instance has already is taken as it is: a setting
that is made narrower does not refuse a service that renews what it has registered.
"""

from collections.abc import Collection
from dataclasses import dataclass

from domain.registry.service import RegisterInstance
from muster.wire.command import Envelope
from muster.wire.error import InvalidInstance
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from muster.wire.stream import name_of
from workers.views.views import Views


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """`interval_seconds_min`: how often a check may ask at most. The shorter, the more one registration can load a target."""

    interval_seconds_min: float = 1.0

    def refusal(self, envelope: Envelope, views: Views) -> InvalidInstance | None:
        """Why a registration is refused; None: it is not, or the command is another."""
        command = envelope.command
        if not isinstance(command, RegisterInstance) or not command.spec.checks:
            return None
        found = views.instances.get(name_of(envelope.stream), {}).get(command.instance)
        return self._of_checks(command.spec.checks, () if found is None else found.spec.checks)

    def _of_checks(
        self,
        checks: Collection[HttpCheck | TcpCheck | TtlCheck],
        known: Collection[HttpCheck | TcpCheck | TtlCheck],
    ) -> InvalidInstance | None:
        for number, check in enumerate(checks):
            if isinstance(check, TtlCheck) or check in known:
                continue
            fault = self._fault(check)
            if fault is not None:
                field = f"checks.{number}.{fault[0]}"
                return InvalidInstance(f"{field}: {fault[1]}", field=field)
        return None

    def _fault(self, check: HttpCheck | TcpCheck) -> tuple[str, str] | None:
        """The field that this controller does not take, and why."""
        least = self.interval_seconds_min
        if check.interval_seconds < least:
            return "interval_seconds", f"this controller checks every {least:g} s at most (`--check-interval-min`)"
        return None
