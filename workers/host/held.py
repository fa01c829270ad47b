"""What a host knows of one of its instances, and the commands that follow from it."""

from dataclasses import dataclass
from typing import Final

from muster.wire.command import PublishedCommand
from muster.wire.registry.answers import Outcome
from muster.wire.registry.check import Health
from muster.wire.registry.spec import SPEC, Spec
from muster.wire.stream import service_stream
from workers.host.checks import LocalHealth
from workers.host.config import HostInstance, Key

_CAUSE_CHARS_MAX: Final = 1_024


@dataclass(slots=True)
class HeldInstance:
    """An instance that the files want. `registered` is what the controller has of it, under `incarnation` in `partition`.

    `former` is the incarnation that it had, and returns to; `told` how it was last said to be; `over` says why it is left alone:
    it was taken out by somebody, or is refused. That stays so until its files say something else.
    """

    wanted: HostInstance
    registered: Spec | None = None
    incarnation: int | None = None
    partition: int | None = None
    former: int | None = None
    told: Health | None = None
    over: str | None = None

    @property
    def key(self) -> Key:
        """Its service and name."""
        return self.wanted.service, self.wanted.instance

    @property
    def due(self) -> bool:
        """Whether it is to be registered: it is not yet, or as something else."""
        return self.over is None and (self.incarnation is None or self.registered != self.wanted.spec)

    def lost(self) -> None:
        """The controller does not know this incarnation any more: it is to be registered again."""
        self.former, self.incarnation, self.told = self.incarnation, None, None

    def taken(self, spec: Spec, outcome: Outcome) -> None:
        """It was registered so."""
        # A new incarnation knows nothing of what was said of the one before.
        if outcome.incarnation != self.former:
            self.told = None
        self.registered, self.incarnation, self.partition = spec, outcome.incarnation, outcome.partition
        self.former = None

    def registration(self, holder: str, actor: str) -> PublishedCommand:
        """The command to be here, as the files want it."""
        data = {
            "instance": self.wanted.instance,
            "spec": SPEC.dump_python(self.wanted.spec, mode="json"),
            "holder": holder,
        }
        # If another process has come since under its name, that one stays.
        if self.former is not None:
            data["incarnation"] = self.former
        return self._command("register", data, actor)

    def report(self, health: LocalHealth, holder: str, actor: str) -> PublishedCommand:
        """The command that says how it is."""
        data: dict[str, object] = {"instance": self.wanted.instance, "status": health.status, "holder": holder}
        if health.cause is not None:
            data["cause"] = health.cause[:_CAUSE_CHARS_MAX]
        return self._command("report_health", data, actor)

    def leave(self, holder: str, actor: str) -> PublishedCommand:
        """The command to be gone: what another process has registered meanwhile stays."""
        return self._command("deregister", {"instance": self.wanted.instance, "holder": holder}, actor)

    def _command(self, verb: str, data: dict[str, object], actor: str) -> PublishedCommand:
        stream = service_stream(self.wanted.service)
        return PublishedCommand(type=f"muster.instance.{verb}.v1", stream=stream, data=data, actor=actor)
