"""Published commands as they stand on the wire: what is taken, what is refused, and with which field."""

from typing import Any

import orjson
import pytest

from domain.catalogue import Answer
from domain.registry.service import Heartbeat, RegisterInstance
from muster.wire.command import Envelope
from muster.wire.error import InvalidCommand, InvalidInstance, NotReady, TooLarge
from workers.writer.published import (
    claimed_id,
    command_bytes_max,
    envelope_from,
    envelope_from_json,
    json_from,
    outcome,
    outcome_of_error,
)

BEAT = {"id": "1", "type": "muster.instance.heartbeat.v1", "stream": "service/orders", "data": {"instance": "a"}}


def test_a_command_is_read_with_its_defaults() -> None:
    assert envelope_from(BEAT) == Envelope("1", "service/orders", Heartbeat(instance="a"))


def test_everything_that_a_command_says_is_kept() -> None:
    said = {**BEAT, "actor": "Zoë", "reason": "why not", "expected_version": 0}
    expected = Envelope("1", "service/orders", Heartbeat(instance="a"), "Zoë", "why not", 0)

    assert envelope_from_json(orjson.dumps(said)) == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "two words"}, "id"),
        ({"id": "x" * 201}, "id"),
        ({"id": "report/keyspace/k/shard/0/open/1/n1/done"}, "id"),
        ({"id": "prod.commands/0/17"}, "id"),
        ({"type": None}, "type"),
        ({"type": "muster.instance.vanish.v1"}, "type"),
        ({"type": "muster.instance.expire_lease.v1"}, "type"),
        ({"stream": "service/"}, "stream"),
        ({"stream": "service/a/b"}, "stream"),
        ({"stream": "keyspace/a"}, "stream"),
        ({"stream": None}, "stream"),
        ({"data": None}, "data"),
        ({"data": {}}, "instance"),
        ({"data": {"instance": "a", "more": 1}}, "more"),
        ({"data": {"instance": "a\n"}}, "instance"),
        ({"actor": ""}, "actor"),
        ({"actor": "a\nb"}, "actor"),
        ({"actor": None}, "actor"),
        ({"reason": "x" * 1_025}, "reason"),
        ({"reason": 1}, "reason"),
        ({"expected_version": -1}, "expected_version"),
        ({"expected_version": True}, "expected_version"),
        ({"expected_version": "1"}, "expected_version"),
        ({"correlation_id": "x"}, "correlation_id"),
    ],
)
def test_what_cannot_be_read_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        envelope_from({**BEAT, **change})

    assert refused.value.context["field"] == field


def test_a_registration_that_cannot_stand_is_told_apart() -> None:
    data = {"instance": "a", "spec": {"address": "x", "port": 70_000}}
    with pytest.raises(InvalidInstance) as refused:
        envelope_from({**BEAT, "type": RegisterInstance.type, "data": data})

    assert refused.value.context["field"] == "port"


@pytest.mark.parametrize("value", [b"", b"{", b"nonsense", b"[" * 5_000, b'{"a": NaN}', b"\xff"])
def test_what_is_no_json_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidCommand):
        json_from(value)


@pytest.mark.parametrize("obj", [None, 1, "x", [], [BEAT]])
def test_what_is_no_object_is_no_command(obj: object) -> None:
    with pytest.raises(InvalidCommand):
        envelope_from(obj)


def test_a_command_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge):
        envelope_from_json(b" " * (command_bytes_max + 1))


def test_the_sender_of_a_malformed_command_finds_its_outcome() -> None:
    assert claimed_id({"id": "7", "type": 3}) == "7"
    assert claimed_id({"id": "two words"}) == ""
    assert claimed_id([]) == ""


def test_an_outcome_says_what_became_of_the_command() -> None:
    answer = Answer("1", "accepted", 2, 17, 3, 0)
    told = {"id": "1", "status": "accepted", "partition": 2, "position": 17, "version": 3, "incarnation": 0}

    assert outcome(answer) == {**told, "error": None}
    assert outcome(Answer("1", "accepted", 2, 17, 3, 0, duplicate=True)) == {**told, "error": None, "duplicate": True}


def test_no_answer_is_unknown_and_a_malformed_command_refused() -> None:
    assert outcome_of_error(NotReady("wait"), "1", 0)["status"] == "unknown"
    refused = outcome_of_error(InvalidCommand("no", field="id"), "", None)
    assert refused["status"] == "refused"
    assert refused["error"] == {"name": "InvalidCommand", "detail": "no", "status": 422, "field": "id"}
