"""What this controller takes of checks, by its settings: what `domain.registry.admission` leaves to the operator.

Judged before a registration is queued, whichever way it came. As there, what an instance has already is taken as it is: a setting
that is made narrower does not refuse a service that renews what it has registered.
"""

from dataclasses import dataclass

from yarl import URL

from domain.registry.service import RegisterInstance
from muster.wire.command import Envelope
from muster.wire.error import InvalidInstance
from muster.wire.registry.check import HttpCheck, HttpsCheck, TcpCheck, TtlCheck
from muster.wire.stream import name_of
from workers.health.connect import fault_of_authority
from workers.health.targets import Targets
from workers.views.views import Views


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """`interval_seconds_min`: how often a check may ask at most. The shorter, the more one registration can load a target.
    `targets`: whom it may ask. `topic`: whether there is a topic by which heartbeats can come, as on Kafka.
    """

    interval_seconds_min: float
    targets: Targets
    topic: bool = True

    def refusal(self, envelope: Envelope, views: Views) -> InvalidInstance | None:
        """Why a registration is refused; None: it is not, or the command is another."""
        command = envelope.command
        if not isinstance(command, RegisterInstance):
            return None
        if command.spec.heartbeats == "topic" and not self.topic:
            reason = "'topic' needs Kafka, and this controller has its log in a folder; leave it out"
            return InvalidInstance(f"heartbeats: {reason}", field="heartbeats")
        if not command.spec.checks:
            return None
        found = views.instances.get(name_of(envelope.stream), {}).get(command.instance)
        known = () if found is None else found.spec.checks
        for number, check in enumerate(command.spec.checks):
            if isinstance(check, TtlCheck) or check in known:
                continue
            fault = self._fault(check, command.spec.address)
            if fault is not None:
                field = f"checks.{number}.{fault[0]}"
                return InvalidInstance(f"{field}: {fault[1]}", field=field)
        return None

    def _fault(self, check: HttpCheck | TcpCheck, address: str) -> tuple[str, str] | None:
        """The field that this controller does not take, and why."""
        least = self.interval_seconds_min
        if check.interval_seconds < least:
            return "interval_seconds", f"this controller checks every {least:g} s at most (`--check-interval-min`)"
        if isinstance(check, TcpCheck):
            field, host, port = "host", check.host, check.port
        else:
            try:
                url = URL(check.url)
                field, host, port = "url", url.host or "", url.port or 0
            except ValueError as error:
                return "url", f"it cannot be read: {error}"
        reason = self.targets.refusal_for_good(host, port, address)
        if reason is not None:
            return field, reason
        if isinstance(check, HttpsCheck) and check.ca_pem is not None:
            reason = fault_of_authority(check.ca_pem)
        return None if reason is None else ("ca_pem", reason)
