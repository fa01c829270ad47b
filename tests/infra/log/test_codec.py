"""Events as bytes: golden documents, upcasting, compression and encryption."""

import json
import os
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from eventsourcing.compressor import ZlibCompressor
from eventsourcing.cryptography import AESCipher
from eventsourcing.utils import Environment

from domain.catalogue import EVENTS
from domain.groups.member import MemberJoined
from domain.message import event, to_json
from domain.registry.doubt.event import InstanceChecksBelieved
from domain.registry.instance import InstanceChecksChanged
from domain.registry.status import InstanceEvent, Mark
from infra.log import codec
from infra.log.chain import Chain, link
from infra.log.codec import CloudEventMapper, Draft, event_from
from infra.log.port import Cursor
from muster.wire.error import Corrupt
from muster.wire.stream import root_of
from tests.sample import EVENTS as INSTANCE_EVENTS
from tests.sample import NOON, recorded
from tests.sample_catalogue import EVENTS as SAMPLES
from tests.sample_catalogue import stream_of
from tests.sample_groups import EVENTS as GROUP_EVENTS

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
FILES = sorted(GOLDEN.glob("*.json"))
BEHIND = Cursor(position=6, head_position=6, head=bytes(range(32)), term=3, writer="w1")
KEY = b"service/orders"


def placed(event):
    """The event with its place in its kind of stream."""
    return recorded(event, 7, 4)._replace(stream=stream_of(event))


def seal(event, mapper=None, offset=None) -> bytes:
    """The record of one event, behind a made-up head."""
    mapper = mapper or CloudEventMapper()
    draft = Draft(placed(event), "0123456789abcdef", mapper.transcoder.encode(event))
    [stored], _ = mapper.seal([draft], BEHIND, offset)
    return stored.state


def opened(value: bytes, mapper=None):
    """The event that a reader gets from the record, through the chain."""
    key = root_of(orjson.loads(value)["subject"]).encode()
    [batch] = Chain(0, BEHIND).follow([(7, key, value)])
    [(position, document)] = batch.records
    return (mapper or CloudEventMapper()).recorded(0, position, document)


def stem(event) -> str:
    return event.type.removeprefix("muster.")


class TestGoldenFiles:
    """A golden file is a record as it was stored once. It is never rewritten: it must stay readable for ever."""

    @pytest.mark.parametrize("event", SAMPLES, ids=stem)
    def test_every_event_type_and_revision_has_one(self, event):
        file = GOLDEN / f"{event.type}.json"
        if os.environ.get("REWRITE") and not file.exists():
            file.write_bytes(seal(event))
        assert file.exists(), "run once with REWRITE=1, read the file, and add it"

    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_it_decodes_to_the_event_that_it_was(self, file):
        by_stem = {event.type.rpartition(".v")[0]: event for event in SAMPLES}
        assert opened(file.read_bytes()) == placed(by_stem[file.stem.rpartition(".v")[0]])

    @pytest.mark.parametrize("event", SAMPLES, ids=stem)
    def test_it_is_what_is_stored_today_byte_for_byte(self, event):
        assert seal(event) == (GOLDEN / f"{event.type}.json").read_bytes()

    def test_the_link_of_a_golden_record_never_changes(self):
        value = (GOLDEN / "muster.instance.drain_started.v1.json").read_bytes()
        assert link(KEY, value).hex() == "077594a408cfb17a591e77e3a1008439331ee7067ca2bee128f609f9e1dacb97"

    def test_a_field_that_came_later_stands_there_only_when_it_says_something(self):
        told = next(event for event in SAMPLES if isinstance(event, InstanceChecksChanged))
        kept = replace(told, kept=("ready",))
        assert b"kept" not in seal(told)
        assert b'"kept":["ready"]' in seal(kept)
        assert opened(seal(kept)).event == kept


LATER = {
    "member_joined_that_fences": replace(
        next(event for event in GROUP_EVENTS if isinstance(event, MemberJoined)), fences=True
    ),
    "group_created_with_failover_seconds": replace(
        GROUP_EVENTS[0], settings=replace(GROUP_EVENTS[0].settings, failover_seconds=60.0)
    ),
    "checks_believed_by_clients": InstanceChecksBelieved(instance="a", because="observed", clients=4, failing=3),
    "registered_by_a_holder": replace(INSTANCE_EVENTS[0], holder="5f0c3a9e"),
    "registered_with_kept_marks": replace(
        INSTANCE_EVENTS[0], maintenance=Mark("ann", "disk swap", NOON), draining=Mark("bob", None, NOON)
    ),
    "registered_with_heartbeats_by_topic": replace(
        INSTANCE_EVENTS[0], spec=replace(INSTANCE_EVENTS[0].spec, heartbeats="topic")
    ),
    "deregistered_with_kept_marks": replace(
        INSTANCE_EVENTS[-1], cause="succeeded", keeps_maintenance=True, keeps_drain=True
    ),
}
"""Events with what was added to their type after the first release. Without it, their bytes are those of before."""


class TestLaterFields:
    """Golden files, as those of `TestGoldenFiles`."""

    @pytest.mark.parametrize("told", LATER)
    def test_a_field_that_was_added_has_a_golden_record_of_its_own(self, told):
        file = GOLDEN / "later" / f"{told}.json"
        if os.environ.get("REWRITE") and not file.exists():
            file.write_bytes(seal(LATER[told]))
        assert opened(file.read_bytes()) == placed(LATER[told])
        assert seal(LATER[told]) == file.read_bytes()


class TestEnvelope:
    def test_it_is_a_cloud_event(self):
        document = json.loads(seal(SAMPLES[0]))
        assert {name: document[name] for name in ("specversion", "type", "source", "id", "subject", "time")} == {
            "specversion": "1.0",
            "type": "muster.instance.registered.v1",
            "source": "/muster/default",
            "id": "1:0",
            "subject": "service/orders",
            "time": "2026-01-02T12:00:00Z",
        }
        assert all(name.islower() and name.isalnum() for name in document if name != "data_base64")

    def test_who_and_why_travel_with_it(self):
        told = opened(seal(SAMPLES[0]))
        assert (told.actor, told.reason, told.command_id, told.correlation_id) == ("ann", "because", "1", "trace-7")

    def test_the_commands_offset_rides_on_the_last_record_of_a_batch(self):
        drafts = [Draft(recorded(event, 7, 4), None, to_json(event)) for event in SAMPLES[:2]]
        stored, _ = CloudEventMapper().seal(drafts, BEHIND, 42)
        documents = [json.loads(record.state) for record in stored]
        assert [document.get("commandsoffset") for document in documents] == [None, "42"]
        assert [document.get("batchlast") for document in documents] == [None, True]

    def test_an_instant_survives_to_the_microsecond(self):
        told = recorded(INSTANCE_EVENTS[-1], 7, 4, at=NOON.replace(microsecond=123456))
        [stored], _ = CloudEventMapper().seal([Draft(told, None, to_json(INSTANCE_EVENTS[-1]))], BEHIND, None)
        assert opened(stored.state).at == NOON.replace(microsecond=123456)


class TestUndecodable:
    """What cannot be decoded stops the partition with its position and a way forward."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"type": "muster.instance.exploded.v1"}, "unknown event type"),
            ({"type": "muster.instance.drain_started.v9"}, "newest known is 1"),
            ({"type": "muster.instance.drain_started.vx"}, "unknown event type"),
            ({"data": {"instance": "a", "nonsense": 1}}, "nonsense"),
            ({"data": {}}, "instance"),
            ({"data": []}, "cannot be decoded"),
            ({"time": "yesterday"}, "cannot be decoded"),
            ({"streamversion": None, "data": None}, "cannot be decoded"),
        ],
        ids=str,
    )
    def test_it_is_corrupt_with_a_way_forward(self, change, reason):
        document = {**orjson.loads(seal(SAMPLES[13])), **change}
        with pytest.raises(Corrupt, match=reason) as stopped:
            CloudEventMapper().recorded(5, 17, document)
        assert (stopped.value.context["partition"], stopped.value.context["position"]) == (5, 17)
        assert "Run a version of muster that knows this event" in stopped.value.detail


@event
class InstanceRenamed(InstanceEvent):
    """A worked example of a second revision: v1 had `name`, v2 has `title` and says who was called so before."""

    type = "muster.instance.renamed.v2"
    title: str
    former: str | None

    @staticmethod
    def upcast_v1_v2(data):
        """Revision 1 did not say the former name."""
        return {"instance": data["instance"], "title": data["name"], "former": None}


class TestUpcasting:
    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch):
        monkeypatch.setitem(EVENTS, InstanceRenamed.type, InstanceRenamed)
        monkeypatch.setitem(codec._NEWEST, "muster.instance.renamed", InstanceRenamed)

    def test_an_old_revision_is_read_as_the_newest(self):
        assert event_from("muster.instance.renamed.v1", {"instance": "a", "name": "Ann"}) == InstanceRenamed(
            instance="a", title="Ann", former=None
        )

    def test_the_newest_revision_is_read_as_it_is(self):
        event = InstanceRenamed(instance="a", title="Ann", former="Anna")
        assert opened(seal(event)).event == event

    def test_a_revision_from_the_future_is_refused(self):
        with pytest.raises(KeyError, match="newest known is 2"):
            event_from("muster.instance.renamed.v3", {})


AES_KEY = AESCipher.create_key(32)


def aes(key: str = AES_KEY) -> AESCipher:
    return AESCipher(Environment(env={"CIPHER_KEY": key}))


MAPPERS = {
    "zlib": lambda: CloudEventMapper(compressor=ZlibCompressor()),
    "aes": lambda: CloudEventMapper(cipher=aes()),
    "zlib and aes": lambda: CloudEventMapper(compressor=ZlibCompressor(), cipher=aes()),
}


class TestPacked:
    @pytest.mark.parametrize("name", MAPPERS)
    @pytest.mark.parametrize("event", SAMPLES, ids=stem)
    def test_an_event_survives_packing(self, name, event):
        mapper = MAPPERS[name]()
        assert opened(seal(event, mapper), mapper) == placed(event)

    @pytest.mark.parametrize("name", MAPPERS)
    def test_the_envelope_stays_readable_and_the_data_does_not(self, name):
        value = seal(SAMPLES[0], MAPPERS[name]())
        assert b'"subject":"service/orders"' in value
        assert b"10.0.0.7" not in value

    def test_the_wrong_cipher_stops_the_partition(self):
        value = seal(SAMPLES[0], CloudEventMapper(cipher=aes()))
        with pytest.raises(Corrupt, match="with the cipher that wrote it"):
            opened(value, CloudEventMapper(cipher=aes(AESCipher.create_key(32))))

    def test_a_missing_cipher_stops_the_partition(self):
        with pytest.raises(Corrupt, match="with the cipher that wrote it"):
            opened(seal(SAMPLES[0], CloudEventMapper(cipher=aes())))

    def test_a_missing_compressor_stops_the_partition(self):
        value = seal(SAMPLES[0], CloudEventMapper(compressor=ZlibCompressor()))
        with pytest.raises(Corrupt):
            opened(value)

    def test_a_compressor_that_cannot_read_it_stops_the_partition(self):
        with pytest.raises(Corrupt):
            opened(seal(SAMPLES[0], CloudEventMapper(cipher=aes())), CloudEventMapper(compressor=ZlibCompressor()))
