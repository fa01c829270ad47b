"""Which events are asked for: the query of `/v1/events`, judged strictly. A name that nobody knows is refused, with the known."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from domain.catalogue import EVENTS
from infra.log.chain import TERM_STARTED
from infra.log.port import Document
from muster.wire.error import InvalidCommand
from muster.wire.token import Positions, Token, parse_token, positions_of
from workers.views.known import check_instance, check_stream
from workers.views.views import Views

events_max: Final = 1_000


def _within_a_log(position: int) -> int:
    """Positions are 64 bits wide, as offsets of Kafka and rows of SQLite are."""
    if position >= 2**63:
        raise InvalidCommand("after: a position is below 2^63", field="after")
    return position


class EventsQuery(BaseModel):
    """Which events. `newest`, `behind` and `before` ask all partitions; without them it is one: the stream's, or 0."""

    model_config = ConfigDict(extra="forbid")
    stream: Annotated[str, Field(max_length=300)] | None = None
    type: Annotated[str, Field(max_length=200)] | None = None
    partition: Annotated[int, Field(ge=0)] | None = None
    after: Annotated[int, Field(ge=-1), AfterValidator(_within_a_log)] = -1
    limit: Annotated[int, Field(ge=1, le=events_max)] = 100
    since: Annotated[AwareDatetime | None, Field(description="Recorded at this time or later")] = None
    until: Annotated[AwareDatetime | None, Field(description="Recorded at this time or earlier")] = None
    actor: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    instance: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    newest: Annotated[bool, Field(description="The newest that match, of all partitions")] = False
    behind: Annotated[str | None, Field(description="The oldest behind these positions: `behind` of a page")] = None
    before: Annotated[str | None, Field(description="The newest before these positions: `before` of a page")] = None

    @property
    def backwards(self) -> bool:
        """Whether the newest are wanted, and not the oldest."""
        return self.newest or self.before is not None

    @property
    def merged(self) -> bool:
        """Whether all partitions are asked."""
        return self.backwards or self.behind is not None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page is to hold. `types`: none asked for, all but starts of terms. `behind`: exclusive, `before`: exclusive."""

    query: EventsQuery
    types: frozenset[str]
    behind: Positions
    before: Positions

    def wants(self, document: Document, at: datetime) -> bool:
        """Whether the event is one of those asked for, but for its instance, which stands in its body."""
        query = self.query
        if query.stream is not None and document["subject"] != query.stream:
            return False
        # Starts of terms are the log's own affair: a caller that wants them asks for their type.
        kind = document["type"]
        if kind not in self.types if self.types else kind == TERM_STARTED:
            return False
        if query.actor is not None and document.get("actor") != query.actor:
            return False
        return (query.since is None or at >= query.since) and (query.until is None or at <= query.until)


def asked(query: EventsQuery, views: Views, partitions: int) -> Asked:
    """The query, judged. Raises InvalidCommand, ServiceNotFound, KeyspaceNotFound and InstanceNotFound, with what is known,
    and OtherLog when the page before was of another log.
    """
    if query.partition is not None and query.partition >= partitions:
        raise InvalidCommand(f"partition: there are {partitions}", field="partition")
    if query.merged and "after" in query.model_fields_set:
        raise InvalidCommand("after: is a position of one partition; go on with behind or before", field="after")
    if query.backwards and query.behind is not None:
        raise InvalidCommand("behind: asks for the oldest, and newest and before for the newest", field="behind")
    if query.since is not None and query.until is not None and query.until < query.since:
        raise InvalidCommand("until: is earlier than since", field="until")
    if query.stream is not None:
        check_stream(query.stream, views)
    if query.instance is not None:
        check_instance(query.instance, query.stream, views)
    places = [_places(name, getattr(query, name), partitions) for name in ("behind", "before")]
    # A page of another log would leave out all that this one has up to there, and nobody would know.
    for token in places:
        views.check(token)
    behind, before = map(positions_of, places)
    return Asked(query, frozenset() if query.type is None else types_of(query.type), behind, before)


def types_of(name: str) -> frozenset[str]:
    """The types that go by the name, in full or in short: `registered` is `muster.instance.registered.v1`.

    Raises InvalidCommand, with all that there are.
    """
    found = frozenset(type_ for type_ in (*EVENTS, TERM_STARTED) if name in _names_of(type_))
    if not found:
        known = sorted({_short(type_) for type_ in (*EVENTS, TERM_STARTED)})
        raise InvalidCommand(f"type: no event is called {name[:140]!r}; there are {', '.join(known)}", field="type")
    return found


def _names_of(type_: str) -> set[str]:
    short = _short(type_)
    return {type_, type_.rpartition(".v")[0], short, short.partition(".")[2]}


def _short(type_: str) -> str:
    """`instance.registered` of `muster.instance.registered.v1`."""
    return type_.removeprefix("muster.").rpartition(".v")[0]


def _places(name: str, text: str | None, partitions: int) -> Token:
    try:
        found = parse_token(text or "")
    except InvalidCommand as error:
        raise InvalidCommand(f"{name}: {error.detail}", field=name) from None
    if unknown := [partition for partition in found if partition >= partitions]:
        raise InvalidCommand(f"{name}: there is no partition {min(unknown)}; there are {partitions}", field=name)
    return found
