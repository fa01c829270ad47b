"""The catalogue: every message by its stable name, and refusals that name the field."""

import pytest

from domain import saga
from domain.catalogue import COMMANDS, EVENTS, INTERNAL_COMMANDS, KIND_OF, command_from, command_from_json
from domain.groups import group
from domain.groups import member as members
from domain.groups import state as groups
from domain.groups.member import ExpireMember
from domain.message import Event, schema_of, to_json, to_plain
from domain.registry import instance, service
from domain.shards import node as nodes
from domain.shards import shard as shard_map
from infra.log.codec import event_from
from muster.wire import error
from muster.wire.error import InvalidCommand, InvalidInstance
from tests.sample import COMMANDS as INSTANCE_COMMANDS
from tests.sample_catalogue import COMMANDS as SAMPLE_COMMANDS
from tests.sample_catalogue import EVENTS as SAMPLE_EVENTS
from tests.sample_catalogue import INTERNAL_COMMANDS as INTERNAL

PUBLIC = [command for command in SAMPLE_COMMANDS if command.type in COMMANDS]


def kind(message):
    return type(message).__name__


def test_every_event_has_a_sample():
    assert [event.type for event in SAMPLE_EVENTS] == list(EVENTS)


def test_every_command_has_a_sample():
    assert [type(command) for command in INSTANCE_COMMANDS] == list(service.DECIDER.all_commands)
    assert [command.type for command in PUBLIC] == list(COMMANDS)
    assert [command.type for command in INTERNAL] == list(INTERNAL_COMMANDS)


@pytest.mark.parametrize(
    "module", [instance, shard_map, nodes, members, groups, saga], ids=lambda module: module.__name__
)
def test_every_event_class_is_in_the_catalogue(module):
    """A class with a type of its own is an event that can be recorded."""
    found = {told for told in vars(module).values() if isinstance(told, type) and issubclass(told, Event)}
    assert {told for told in found if "type" in vars(told)} <= set(EVENTS.values())


def test_names_on_the_wire_are_unique_and_end_in_a_revision():
    inside = (*service.DECIDER.own, *group.DECIDER.own, *saga.DECIDER.own)
    names = [*COMMANDS, *INTERNAL_COMMANDS, *EVENTS, *(command.type for command in inside)]
    assert len(set(names)) == len(names)
    subjects = {"instance", "keyspace", "shard", "node", "cluster", "group", "traffic", "saga"}
    assert {name.split(".")[1] for name in names} == subjects
    assert all(name.startswith("muster.") and name.rpartition(".v")[2].isdigit() for name in names)


def test_every_command_is_for_one_kind_of_stream():
    assert KIND_OF.keys() == COMMANDS.keys() | INTERNAL_COMMANDS.keys()


@pytest.mark.parametrize("event", SAMPLE_EVENTS, ids=kind)
def test_every_event_survives_json(event):
    assert schema_of(type(event)).validate_json(to_json(event)) == event
    assert event_from(event.type, to_plain(event)) == event


@pytest.mark.parametrize("command", PUBLIC, ids=kind)
def test_every_public_command_survives_json(command):
    assert command_from_json(command.type, command.model_dump_json().encode()) == command
    assert command_from(command.type, command.model_dump(mode="json")) == command


@pytest.mark.parametrize("command", PUBLIC, ids=kind)
def test_an_unknown_field_is_refused_in_every_command(command):
    with pytest.raises(InvalidCommand) as refused:
        command_from(command.type, {**command.model_dump(mode="json"), "nonsense": 1})
    assert refused.value.context == {"field": "nonsense"}


NAMED = [(command, "instance") for command in PUBLIC if hasattr(command, "instance")] + [
    (command, field)
    for command in PUBLIC
    for field in ("node", "target", "member", "to", "step")
    if getattr(command, field, None) is not None
]


@pytest.mark.parametrize(("command", "field"), NAMED, ids=lambda told: told if isinstance(told, str) else kind(told))
@pytest.mark.parametrize("name", ["", "-a", "a/b", "a b", "a\n", "a" * 129, "ä"])
def test_a_bad_name_is_refused_in_every_command(command, field, name):
    with pytest.raises(InvalidCommand) as refused:
        command_from(command.type, {**command.model_dump(mode="json"), field: name})
    assert refused.value.context == {"field": field}


@pytest.mark.parametrize("command", [*INTERNAL, ExpireMember, saga.ExpireStep], ids=lambda told: told.type)
def test_commands_from_controllers_cannot_be_published(command):
    with pytest.raises(InvalidCommand) as refused:
        command_from(command.type, {})
    assert refused.value.context == {"field": "type"}


@pytest.mark.parametrize("command", INTERNAL, ids=kind)
def test_controllers_give_each_other_what_a_saga_asks_for(command):
    assert command_from(command.type, command.model_dump(mode="json"), inside=True) == command


@pytest.mark.parametrize("command", service.DECIDER.own, ids=lambda command: command.__name__)
def test_commands_from_inside_cannot_be_published(command):
    with pytest.raises(InvalidCommand) as refused:
        command_from(command.type, {"instance": "a", "incarnation": 0})
    assert refused.value.context == {"field": "type"}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"text"', b"\xff"], ids=repr)
def test_malformed_data_is_refused(data):
    with pytest.raises(InvalidCommand):
        command_from_json("muster.instance.drain.v1", data)


def test_an_unknown_type_is_refused_in_json_too():
    with pytest.raises(InvalidCommand) as refused:
        command_from_json("muster.instance.explode.v1", b"{}")
    assert refused.value.context == {"field": "type"}


def test_a_spec_that_is_no_object_is_refused_as_an_instance():
    with pytest.raises(InvalidInstance) as refused:
        command_from("muster.instance.register.v1", {"instance": "a", "spec": 7})
    assert refused.value.context == {"field": "spec"}


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"status": "dead"}, "status"),
        ({"status": "healthy", "cause": "x" * 1025}, "cause"),
        ({"status": "healthy", "check": "no name"}, "check"),
        ({"status": "healthy", "incarnation": "first"}, "incarnation"),
        ({}, "status"),
    ],
)
def test_a_bad_report_is_refused_with_its_field(data, field):
    with pytest.raises(InvalidCommand) as refused:
        command_from("muster.instance.report_health.v1", {"instance": "a", **data})
    assert refused.value.context == {"field": field}


def test_every_error_has_one_family_and_one_name():
    families = (error.Refused, error.Transient, error.Corrupt)
    below = [found for found in error.BY_NAME.values() if found is not error.MusterError]
    assert all(sum(issubclass(found, family) for family in families) == 1 for found in below)
    assert all(name == found("why").name for name, found in error.BY_NAME.items())
