"""A group: commands decided together, as a value: what is to be recorded, what is answered, and what taking it back needs."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from eventsourcing.persistence import StoredEvent

from domain.catalogue import Answer
from domain.decider import Decider, Renewed
from domain.message import Recorded
from infra.log.codec import Draft
from infra.log.port import START, Cursor
from muster.wire.command import Command, Envelope
from muster.wire.error import MusterError
from workers.machine.deadlines import Subject

Folded = tuple[Recorded, Any]
"""An event, and the part of the state that it is about as it stands after it: an `Instance` (None: gone), a `DataNode`, the
whole `Keyspace` or `Saga`; see `domain.decider.Parts`.
"""

Observation = tuple[str, Command]
"""A stream, and a command that the writer of its partition gives for what it has seen itself."""

GivenCommand = tuple[Envelope, int | None]
"""A command, and its offset in its commands partition (None: it did not come from there)."""

Unheard = tuple[str, MusterError]
"""An instance whose beat was refused, and why."""


@dataclass(slots=True)
class Group:
    """What `Partition.step` has decided. It counts once `commit` has been called, after the log has acknowledged `batch`.

    `batch` are the sealed records, in order (none: a beat proves the reign), `cursor` stands after them; `folded` are its events.
    `answers` are those to the first commands given, in order: those that did not fit wait for the next group. `observed` is how
    many observations are in it, `expired` how many timers; `heard` says of the first messages of heartbeats who was refused.
    """

    at: datetime
    position: int
    commands_offset: int | None
    batch: list[StoredEvent] = field(default_factory=list)
    cursor: Cursor = START
    folded: list[Folded] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    observed: int = 0
    expired: int = 0
    heard: list[list[Unheard]] = field(default_factory=list)
    # What commit and rollback need: records before they are sealed, the states that were replaced, what it touched.
    drafts: list[Draft] = field(default_factory=list)
    bytes: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    touched: dict[Subject, tuple[Decider[Any, Any, Any], Any]] = field(default_factory=dict)
    timed: dict[Subject, None] = field(default_factory=dict)
    renewed: list[tuple[Subject, Renewed]] = field(default_factory=list)
    answered: dict[str, tuple[Answer, str]] = field(default_factory=dict)

    @property
    def head(self) -> int:
        """The position of its last record so far, or of the log's head before it."""
        return self.position + len(self.drafts)


class GroupFull(Exception):
    """The command's events do not fit into this group any more; they will into the next one."""


Commands = Iterable[GivenCommand]
