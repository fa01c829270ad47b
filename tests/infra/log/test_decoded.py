"""An event that another process has decoded is the event that decoding it here gives, and what it cannot decode stops here."""

import marshal
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.message import Event, Recorded, to_json
from domain.registry.status import Mark
from infra.log.codec import CloudEventMapper, Draft, command_hashes, commands_offset, commands_topic
from infra.log.decoded import DecodedRecords, row_of
from infra.log.port import START, Batch, Document
from muster.wire.error import Corrupt
from muster.wire.registry.spec import Spec
from tests.histories import specs
from tests.sample import EVENTS, FULL, NOON, recorded, registered

MAPPER = CloudEventMapper()
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def document_of(event: Event, offset: int | None = None) -> Document:
    """The event's document as a reader parses it."""
    draft = Draft(recorded(event, 7, 4), "0123456789abcdef", MAPPER.transcoder.encode(event))
    [stored], _ = MAPPER.seal([draft], START, offset)
    document: Document = orjson.loads(stored.state)
    return document


def handed_over(*documents: Document) -> Batch:
    """The batch as the reading process gets it from the other one."""
    rows = [row_of(position, document) for position, document in enumerate(documents, start=7)]
    return Batch(DecodedRecords(marshal.loads(marshal.dumps(rows))), START)


def told(batch: Batch) -> list[Recorded] | tuple[str, Any]:
    """What a reader makes of the batch: its events, or why it stops and where."""
    try:
        return MAPPER.events(3, batch)
    except Corrupt as error:
        return error.detail, error.context


MARK = Mark("ann", "disk swap", NOON)
LATER = (
    replace(EVENTS[0], holder="h1"),
    replace(EVENTS[0], maintenance=MARK),
    replace(EVENTS[0], draining=MARK),
    replace(EVENTS[-1], keeps_maintenance=True, keeps_drain=True),
)


@pytest.mark.parametrize("event", [*EVENTS, *LATER], ids=lambda event: event.type)
def test_every_event_arrives_as_it_was(event: Event) -> None:
    document = document_of(event)
    [here] = MAPPER.events(3, Batch([(7, document)], START))
    [there] = MAPPER.events(3, handed_over(document))
    assert there == here
    assert to_json(there.event) == to_json(event)
    assert replace(there.event) == event


@given(spec=specs)
def test_any_registration_arrives_as_it_was(spec: Spec) -> None:
    document = document_of(registered(**{name: getattr(spec, name) for name in Spec.__slots__}))
    assert told(handed_over(document)) == told(Batch([(7, document)], START))


def test_instances_share_what_they_have_checked_alike() -> None:
    one, other, unlike = told(
        handed_over(
            *(document_of(registered(name, checks=FULL.checks)) for name in ("i0", "i1")),
            document_of(registered("i2", checks=FULL.checks[:1])),
        )
    )
    assert one.event.spec.checks is other.event.spec.checks
    assert unlike.event.spec.checks == FULL.checks[:1]


def test_instances_share_the_texts_of_their_specs() -> None:
    one, other = told(
        handed_over(
            *(document_of(registered(name, metadata={"team": name}, tags=("blue",), zone="b")) for name in ("i0", "i1"))
        )
    )
    [mine], [yours] = one.event.spec.metadata, other.event.spec.metadata
    assert mine is yours
    assert one.event.spec.tags[0] is other.event.spec.tags[0]
    assert one.event.spec.zone is other.event.spec.zone


@pytest.mark.parametrize(
    "checks",
    [
        None,
        [{"kind": "ttl"}],
        [{"kind": "ttl", "ttl_seconds": 5.0, "name": "reported"}],
        [{"kind": "ttl", "ttl_seconds": 5}, {"kind": "ttl", "ttl_seconds": 6}],
        [{"kind": "ttl", "ttl_seconds": 5.0, "nonsense": 1}],
    ],
)
def test_checks_are_judged_and_named_as_if_they_had_been_decoded_here(checks: Any) -> None:
    document = document_of(registered("i0"))
    document["data"]["spec"]["checks"] = checks
    assert told(handed_over(document)) == told(Batch([(7, document)], START))


@given(data=st.data(), event=st.sampled_from(EVENTS))
def test_a_mutilated_document_is_judged_as_if_it_had_been_decoded_here(data: st.DataObject, event: Event) -> None:
    document = document_of(event)
    for _ in range(data.draw(st.integers(1, 2))):
        inner = document["data"]
        of = inner if isinstance(inner, dict) and data.draw(st.booleans()) else document
        name = data.draw(st.sampled_from([*sorted(of), "nonsense"]) | st.text(max_size=8))
        if data.draw(st.booleans()):
            of[name] = data.draw(values)
        else:
            of.pop(name, None)
        document.setdefault("data", None)
    assert told(handed_over(document)) == told(Batch([(7, document)], START))


def test_one_that_cannot_be_decoded_stops_the_reader_at_its_position() -> None:
    documents = [document_of(event) for event in EVENTS[:3]]
    documents[1]["data"]["nonsense"] = 1
    with pytest.raises(Corrupt, match="nonsense") as stopped:
        MAPPER.events(3, handed_over(*documents))
    assert stopped.value.context["position"] == 8


def test_enciphered_events_are_left_to_who_has_the_key() -> None:
    document = document_of(EVENTS[0])
    del document["data"]
    document["data_base64"] = "AAAA"
    assert row_of(7, document) == (7, document)


def test_hashes_and_the_offset_of_commands_arrive() -> None:
    first, last = document_of(EVENTS[0]), {**document_of(EVENTS[1], offset=42), "commandstopic": "t"}
    del first["commandhash"]
    there, here = handed_over(first, last), Batch([(7, first), (8, last)], START)
    assert command_hashes(there) == command_hashes(here) == [None, "0123456789abcdef"]
    assert commands_offset(there) == commands_offset(here) == 42
    assert commands_topic(there) == commands_topic(here) == "t"
    assert there.records[-1][1]["commandstopic"] == "t"


def test_whoever_wants_documents_gets_documents() -> None:
    documents = [document_of(event) for event in EVENTS]
    for document in documents[:-1]:
        del document["batchlast"]
    records = handed_over(*documents).records
    assert len(records) == len(EVENTS)
    for (position, document), (at, original) in zip(records, enumerate(documents, start=7), strict=True):
        assert position == at
        assert document == {name: original[name] for name in document}
        assert document.get("batchlast") == original.get("batchlast")
    assert records[1:3] == [records[1], records[2]]
