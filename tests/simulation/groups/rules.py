"""When a failover may begin by itself, told by the events alone: who is silent, who is suspected, and what was held down."""

from typing import Final

from domain.groups import member as m
from domain.groups import state as g
from domain.message import Event

hold_down_seconds: Final = 5.0


class Rules:
    """Raises AssertionError where a failover began that had no reason to."""

    def __init__(self) -> None:
        self.settings = g.GroupRules()
        self.paused = False
        self.failed: set[str] = set()
        self.suspects: set[str] = set()
        self.cause: str | None = None
        self.suspected_at: float | None = None

    def take(self, event: Event, now: float) -> None:
        """The event happens."""
        match event:
            case g.GroupCreated() | g.GroupSettingsChanged():
                self.settings = event.settings
            case g.GroupPaused() | g.GroupResumed():
                self.paused = isinstance(event, g.GroupPaused)
            case m.MemberFailed():
                self.failed.add(event.member)
            case m.MemberJoined() | m.MemberReady() | m.MemberRecovering() | m.MemberLeft():
                self.failed.discard(event.member)
            case m.MemberSuspected():
                self.suspects.add(event.member)
            case m.MemberTrusted():
                self.suspects.discard(event.member)
            case g.FailoverStarted():
                self._begins(event, now)
            case m.MemberPromoted():
                self.suspected_at = now if self.cause == "suspected" else None

    def _begins(self, event: g.FailoverStarted, now: float) -> None:
        self.cause = event.cause
        assert event.cause == "operator" or not self.paused, f"{event.failover} begins by itself in a paused group"
        if event.cause != "suspected":
            return
        alone = self.settings.fencing == "hook" and self.settings.service is None
        assert event.was in self.failed, f"{event.was} was heard, and {event.failover} begins on suspicion"
        assert alone or event.was in self.suspects, f"{event.failover} begins on the silence of {event.was} alone"
        early = self.suspected_at is not None and now - self.suspected_at < hold_down_seconds
        assert not early, (
            f"{event.failover} begins on suspicion, {now - (self.suspected_at or 0.0):g} s after the last one"
        )
