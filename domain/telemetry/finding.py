"""What telemetry has found: who is silent since when, who is heard again; and the commands that say so.

A command's id comes from the log alone, from what Kafka recorded: the instance, the instant of its last beat, and what has
changed. A counter would begin anew in the worker that takes over, and repeat ids of before: the writer would take a true
silence for a duplicate, and drop it. So whoever finds the same says the same under the same id; what is new has a new one.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

from domain.registry.silence import BeatHeard, ReportSilence, Silence
from muster.wire.command import Envelope
from muster.wire.stream import service_stream

findings_command_max: Final = 50
"""How many findings one command carries: each can be some events, and a batch of the log has room for about 900."""


class Suspicion(NamedTuple):
    """`silent`: nothing was heard since `at_ms`, so the ttl check is over, or (`check` is None) the lease. Else: it is heard."""

    service: str
    instance: str
    incarnation: int
    at_ms: int
    silent: bool
    check: str | None = None

    @property
    def identity(self) -> str:
        """What makes it another finding than others; no name has a slash."""
        transition = f"silent/{self.check or ''}" if self.silent else "present"
        return f"{self.service}/{self.instance}/{self.incarnation}/{self.at_ms}/{transition}"


def commands(findings: Iterable[Suspicion], actor: str) -> Iterator[Envelope]:
    """The commands that say all of these, those of a service together."""
    by_service: dict[str, list[Suspicion]] = {}
    for finding in findings:
        by_service.setdefault(finding.service, []).append(finding)
    for service, some in by_service.items():
        # In one order, whatever the order of finding was: so the same findings are the same command.
        some.sort(key=lambda finding: finding.identity)
        for start in range(0, len(some), findings_command_max):
            yield _command(service, some[start : start + findings_command_max], actor)


def _command(service: str, findings: list[Suspicion], actor: str) -> Envelope:
    id_ = sha256("\n".join(finding.identity for finding in findings).encode()).hexdigest()[:32]
    command = ReportSilence(
        silent=tuple(
            Silence(
                instance=finding.instance,
                incarnation=finding.incarnation,
                since=_instant(finding.at_ms),
                check=finding.check,
            )
            for finding in findings
            if finding.silent
        ),
        present=tuple(
            BeatHeard(instance=finding.instance, incarnation=finding.incarnation, at=_instant(finding.at_ms))
            for finding in findings
            if not finding.silent
        ),
    )
    return Envelope(f"telemetry/{id_}", service_stream(service), command, actor)


def _instant(at_ms: int) -> datetime:
    # In whole milliseconds, as Kafka has it: a float of the seconds would not always be the same instant again.
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
