"""The partition machine: groups of commands in, one batch and the answers out."""

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.registry.instance import InstanceDrainEnded, InstanceDrainStarted, InstanceRegistered
from domain.registry.service import (
    DeregisterInstance,
    DrainInstance,
    Heartbeat,
    ObserveCheck,
    RegisterInstance,
    SetMaintenance,
    UndrainInstance,
)
from domain.saga import PauseSaga
from domain.shards.keyspace import CreateKeyspace, MoveShard, ReportOpened
from domain.shards.node import DrainNode
from infra.log.codec import CloudEventMapper
from infra.log.port import Batch
from muster.wire.command import Envelope
from muster.wire.error import Corrupt
from muster.wire.registry.check import TcpCheck
from muster.wire.route import partition_of
from muster.wire.stream import kind_of
from tests.histories import public_commands
from tests.machine import Machine, facts, statuses
from tests.sample import HTTP, NOON, PLAIN, TTL, envelope, recorded, register, sealed_batch, spec, term_batch
from workers.machine import partition as module
from workers.machine.partition import Partition

SERVICE, USERS = "service/orders", "keyspace/users"


def drain(id_="2", instance="a", **also):
    return envelope(id_, DrainInstance(instance=instance), **also)


A_COMMAND_FOR = {
    "service": RegisterInstance(instance="a", spec=PLAIN),
    "keyspace": CreateKeyspace(shards=4),
    "cluster": DrainNode(node="n1"),
    "saga": PauseSaga(),
}


class TestAnswers:
    def test_an_accepted_command_has_the_position_of_its_last_event(self):
        answer = Machine().answer(register())
        assert (answer.status, answer.position, answer.version, answer.incarnation) == ("accepted", 1, 0, 0)

    def test_what_is_already_so_has_the_head_that_the_decision_saw(self):
        machine = Machine()
        machine.group(register(), drain())
        answer = machine.answer(drain("3"))
        assert (answer.status, answer.position, answer.version, answer.incarnation) == ("unchanged", 2, 1, 0)

    def test_a_refusal_is_an_answer_with_the_problem(self):
        answer = Machine().answer(drain())
        assert (answer.status, answer.position, answer.error["name"], answer.error["status"]) == (
            "refused",
            0,
            "ServiceNotFound",
            404,
        )

    def test_who_leaves_is_answered_with_the_incarnation_that_left(self):
        machine = Machine()
        machine.group(register())
        answer = machine.answer(envelope("2", DeregisterInstance(instance="a")))
        assert (answer.status, answer.version, answer.incarnation) == ("accepted", 1, 0)

    def test_commands_of_a_group_see_each_others_events(self):
        assert statuses(Machine().group(register(), drain(), drain("3"))) == ["accepted", "accepted", "unchanged"]

    def test_a_group_is_one_batch(self):
        machine = Machine()
        machine.group(register(), drain(), register("b", "3"))
        assert [document.get("batchlast") for document in machine.documents()] == [True, None, None, True]

    def test_a_group_that_records_nothing_appends_nothing(self):
        machine = Machine()
        machine.group(drain())
        assert len(machine.log) == 1

    def test_who_asked_and_why_is_recorded(self):
        machine = Machine()
        machine.group(Envelope("1", SERVICE, RegisterInstance(instance="a", spec=PLAIN), "ann", "new", None, "trace"))
        document = machine.documents()[1]
        assert (document["actor"], document["reason"], document["correlationid"], document["causationid"]) == (
            "ann",
            "new",
            "trace",
            "1",
        )


class TestIdempotence:
    def test_a_repeat_gets_the_original_answer(self):
        machine = Machine()
        first = machine.answer(register())
        machine.group(drain())
        again = machine.answer(register())
        assert again.duplicate
        assert (again.status, again.position, again.version) == (first.status, first.position, first.version)
        assert len(machine.log) == 3

    def test_a_repeat_within_the_group_gets_the_original_answer(self):
        machine = Machine()
        assert statuses(machine.group(register(), register())) == ["accepted", "accepted again"]
        assert len(machine.log) == 2

    def test_a_refusal_is_repeated_as_it_was(self):
        machine = Machine()
        refused = machine.answer(drain())
        machine.group(register())
        again = machine.answer(drain())
        assert (again.duplicate, again.error) == (True, refused.error)

    @pytest.mark.parametrize(
        "other",
        [
            register(port=81),
            register("b"),
            register(service="users"),
            envelope("1", RegisterInstance(instance="a", spec=PLAIN), version=0),
            envelope("1", DrainInstance(instance="a")),
        ],
        ids=["data", "instance", "stream", "expected version", "type"],
    )
    def test_an_id_used_for_something_else_is_refused(self, other):
        machine = Machine()
        assert statuses([*machine.group(register()), *machine.group(other)]) == ["accepted", "IdempotencyConflict"]
        assert statuses(Machine().group(register(), other)) == ["accepted", "IdempotencyConflict"]

    def test_a_conflict_does_not_replace_the_original_answer(self):
        machine = Machine()
        machine.group(register(), register(port=81))
        assert statuses(machine.group(register())) == ["accepted again"]

    def test_the_same_wish_from_another_actor_is_a_repeat(self):
        machine = Machine()
        machine.group(register())
        other = Envelope("1", SERVICE, register().command, actor="bob", reason="why not")
        assert statuses(machine.group(other)) == ["accepted again"]

    def test_a_repeat_renews_nothing(self):
        machine = Machine()
        machine.group(register(lease_seconds=5.0))
        machine.passes(4)
        machine.group(register(lease_seconds=5.0))
        assert machine.passes(2)


class TestExpectedVersion:
    def test_the_expected_version_is_accepted(self):
        machine = Machine()
        machine.group(register(), register("b", "2"))
        assert statuses(machine.group(drain("3", "b", version=1))) == ["accepted"]

    @pytest.mark.parametrize("expected", [0, 2])
    def test_another_version_is_refused_with_the_actual_one(self, expected):
        machine = Machine()
        machine.group(register(), register("b", "2"))
        [answer] = machine.group(drain("3", "b", version=expected))
        assert (answer.error["name"], answer.error["expected"], answer.error["actual"]) == (
            "VersionConflict",
            expected,
            1,
        )

    def test_an_absent_instance_has_no_version(self):
        [answer] = Machine().group(drain(version=0))
        assert answer.error["name"] == "VersionConflict"
        assert "actual" not in answer.error

    def test_the_version_is_compared_within_the_group(self):
        assert statuses(Machine().group(register(), drain("2", version=0), drain("3", version=0))) == [
            "accepted",
            "accepted",
            "VersionConflict",
        ]


class TestLimits:
    def test_a_command_over_the_batch_limit_is_refused_and_changes_nothing(self):
        machine = Machine(batch_bytes_max=2_000)
        before = facts(machine.partition)
        [answer] = machine.group(register(metadata={"k": "v" * 3_000}))
        assert (answer.error["name"], answer.error["status"]) == ("TooLarge", 413)
        assert facts(machine.partition) == before

    def test_a_command_over_the_records_limit_is_refused(self):
        machine = Machine(batch_records_max=2)
        machine.group(register())
        assert statuses(machine.group(register("a", "2", port=81, zone="z", weight=7))) == ["TooLarge"]

    def test_a_command_of_exactly_the_records_limit_is_accepted(self):
        machine = Machine(batch_records_max=2)
        machine.group(register())
        assert statuses(machine.group(register("a", "2", port=81, zone="z"))) == ["accepted"]

    @pytest.mark.parametrize("limits", [{"batch_records_max": 2}, {"batch_bytes_max": 2_400}], ids=str)
    def test_what_does_not_fit_goes_into_the_next_group(self, limits):
        machine = Machine(**limits)
        group = machine.step(register("a", "1"), register("b", "2"), register("c", "3"), offset=7)
        assert statuses(group.answers) == ["accepted", "accepted"]
        machine.commit(group)
        assert machine.partition.commands_offset == 9
        assert set(machine.partition.streams[SERVICE].instances) == {"a", "b"}
        assert statuses(machine.group(register("c", "3"))) == ["accepted"]

    def test_answers_that_record_nothing_always_fit(self):
        machine = Machine(batch_records_max=1)
        assert statuses(machine.group(register(), register(), envelope("2", Heartbeat(instance="a")))) == [
            "accepted",
            "accepted again",
            "unchanged",
        ]


class TestPlaces:
    @pytest.mark.parametrize("stream", ["service/orders", "keyspace/users", "cluster", "keyspace/users/migration/17"])
    def test_a_command_is_decided_in_the_partition_of_its_root_alone(self, stream):
        due = partition_of(stream, 8)
        for number in range(8):
            partition = Partition(number, CloudEventMapper(), partitions=8)
            partition.fold(term_batch())
            partition.begin(partition.cursor, 0.0)
            [answer] = partition.step(NOON, [(Envelope("1", stream, A_COMMAND_FOR[kind_of(stream)]), None)]).answers
            if number == due:
                assert answer.error is None or answer.error["name"] != "WrongPartition"
            else:
                assert answer.status == "refused"
                assert (answer.error["name"], answer.error["partition"]) == ("WrongPartition", due)

    def test_a_command_that_is_refused_for_its_place_leaves_nothing(self):
        elsewhere = (partition_of(SERVICE, 8) + 1) % 8
        partition = Partition(elsewhere, CloudEventMapper(), partitions=8)
        partition.fold(term_batch())
        partition.begin(partition.cursor, 0.0)
        group = partition.step(NOON, [(register(), 6)])
        assert (group.batch, group.commands_offset, partition.streams) == ([], 7, {})


class TestRollback:
    def test_it_restores_everything(self):
        machine = Machine()
        machine.group(register(lease_seconds=5.0), offset=3)
        before, armed = facts(machine.partition), len(machine.partition.deadlines)
        new = register("b", "3", service="users", lease_seconds=1.0)
        machine.partition.rollback(machine.step(drain(), new, drain("4", "x"), now=NOON + timedelta(hours=1), offset=4))
        assert facts(machine.partition) == before
        assert machine.partition.commands_offset == 4
        assert len(machine.partition.deadlines) == armed

    def test_what_was_rolled_back_is_decided_anew(self):
        machine = Machine()
        machine.partition.rollback(machine.step(register(), drain("2", "x")))
        assert statuses(machine.group(register("x", "9"), drain("2", "x"), register())) == ["accepted"] * 3

    def test_a_group_is_open_or_not(self):
        machine = Machine()
        machine.step()
        with pytest.raises(AssertionError, match="neither committed nor rolled back"):
            machine.step()

    def test_only_the_open_group_can_end(self):
        machine = Machine()
        old = machine.step(register())
        machine.commit(old)
        machine.step(drain())
        for end in (machine.partition.commit, machine.partition.rollback):
            with pytest.raises(AssertionError, match="only the open group"):
                end(old)


class TestTime:
    def test_instants_never_run_backwards(self):
        machine = Machine()
        machine.group(register(), now=NOON)
        machine.group(drain(), now=NOON - timedelta(hours=1))
        assert [document["time"] for document in machine.documents()[1:]] == ["2026-01-02T12:00:00Z"] * 2

    def test_nor_after_a_recovery(self):
        machine = Machine()
        machine.group(register(), now=NOON + timedelta(hours=1))
        machine.claims("w2", machine.recovered())
        machine.group(drain(), now=NOON)
        assert machine.documents()[-1]["time"] == "2026-01-02T13:00:00Z"


class TestExpiry:
    def test_a_lease_runs_out(self):
        machine = Machine()
        machine.group(register(lease_seconds=5.0))
        assert machine.passes(4.8) == []
        assert [told.event.type for told in machine.passes(0.2)] == [
            "muster.instance.lease_expired.v1",
            "muster.instance.deregistered.v1",
        ]

    @pytest.mark.parametrize("sign", [Heartbeat(instance="a"), register(lease_seconds=5.0).command], ids=repr)
    def test_a_sign_of_life_renews_the_lease(self, sign):
        machine = Machine()
        machine.group(register(lease_seconds=5.0))
        machine.passes(4)
        assert machine.answer(envelope("2", sign)).status == "unchanged"
        assert machine.passes(4.8) == []
        assert machine.passes(0.3)

    def test_a_sign_of_life_counts_only_once_it_was_acknowledged(self):
        machine = Machine()
        machine.group(register(lease_seconds=5.0))
        machine.passes(4)
        machine.partition.rollback(machine.step(envelope("2", Heartbeat(instance="a"))))
        assert machine.passes(2)

    def test_a_lease_that_becomes_shorter_runs_out_sooner(self):
        machine = Machine()
        machine.group(register(lease_seconds=500.0))
        machine.group(register("a", "2", lease_seconds=5.0))
        assert machine.passes(5.1)

    def test_a_ttl_check_runs_out_once(self):
        machine = Machine()
        machine.group(register(checks=(TTL,)))
        assert [told.event.type for told in machine.passes(5.1)] == ["muster.instance.health_changed.v1"]
        assert machine.passes(20) == []

    def test_what_was_unhealthy_for_too_long_leaves(self):
        machine = Machine()
        machine.group(register(checks=(TTL,), deregister_after_seconds=3.0))
        machine.passes(5.1)
        assert [told.event.cause for told in machine.passes(3.1)] == ["unhealthy_too_long"]

    def test_what_runs_out_together_and_fits_into_no_batch_runs_out_batch_by_batch(self):
        machine = Machine(batch_records_max=5)
        machine.group(*(register(name, name, lease_seconds=5.0) for name in "abcde"))
        gone = [
            [told.event.instance for told in group if told.event.type == "muster.instance.deregistered.v1"]
            for group in (machine.passes(5.1), machine.passes(0), machine.passes(0), machine.passes(0))
        ]
        assert gone == [["a", "b"], ["c", "d"], ["e"], []]

    def test_an_expiry_is_recorded_in_the_name_of_muster(self):
        machine = Machine()
        machine.group(register(checks=(TTL,)))
        [told] = machine.passes(5.1)
        assert (told.actor, told.command_id) == ("muster", "expire/service/orders/a/ttl/ttl@1")

    def test_a_new_reign_gives_full_length_and_more(self):
        machine = Machine()
        machine.group(register(lease_seconds=5.0))
        machine.passes(4)
        machine.partition.begin(machine.partition.cursor, 3.0)
        assert machine.passes(7.8) == []
        assert machine.passes(0.3)

    @pytest.fixture
    def doubted(self) -> Machine:
        """Three instances whose checks have failed together at noon, and are in doubt for 30 s."""
        machine = Machine()
        names, check = ("a", "b", "c"), TcpCheck(host="10.0.0.7", port=80, name="port", interval_seconds=0.5)
        machine.group(*(register(name, name, checks=(check,)) for name in names))
        for status in ("healthy", "unhealthy"):
            for name in names:
                incarnation = machine.partition.streams["service/orders"].instances[name].incarnation
                seen = {"instance": name, "incarnation": incarnation, "check": "port", "status": status}
                machine.commit(machine.observe("service/orders", ObserveCheck(**seen, at=NOON, mass_flip_seconds=30.0)))
        return machine

    @pytest.mark.parametrize(
        ("behind_noon", "lasts"),
        [
            (20.0, 10.0),
            # Nobody has written for an hour, or the clock is ahead: a look, which takes an interval, the timeout and a second.
            (3_600.0, 3.5),
        ],
    )
    def test_a_doubt_about_checks_ends_when_the_log_says_but_not_before_a_look(self, doubted, behind_noon, lasts):
        doubted.partition.begin(doubted.partition.cursor, 5.0, NOON + timedelta(seconds=behind_noon))
        assert doubted.passes(lasts - 0.2) == []
        ended = doubted.passes(0.3)
        assert [told.event.type for told in ended] == ["muster.instance.checks_believed.v1"] * 3

    def test_what_sagas_wait_for_gets_no_more_than_its_full_length(self):
        machine = Machine()
        machine.group(
            Envelope("c1", USERS, CreateKeyspace(shards=1, nodes=("n1",))),
            Envelope("c2", USERS, ReportOpened(shard=0, node="n1", epoch=1)),
            Envelope("c3", USERS, MoveShard(shard=0, target="n2")),
        )
        machine.partition.begin(machine.partition.cursor, 30.0)
        assert machine.passes(299.0) == []
        assert [told.event.type for told in machine.passes(2.0)] == ["muster.saga.step_stalled.v1"]

    def test_a_reign_that_begins_in_steps_has_armed_everything_behind_the_last(self, monkeypatch):
        monkeypatch.setattr(module, "begin_items_max", 2)
        machine = Machine()
        machine.group(*(register(f"i{number}", f"c{number}", lease_seconds=5.0) for number in range(5)))
        beginning = machine.partition.beginning(machine.partition.cursor, 0.0, NOON)
        assert [len(machine.partition.deadlines) for _ in beginning] == [2, 4]
        assert len(machine.partition.deadlines) == 5

    def test_a_reign_begins_where_the_log_was_read_to(self):
        machine = Machine()
        stale = machine.partition.cursor
        machine.group(register())
        with pytest.raises(AssertionError, match="where the log was read to"):
            machine.partition.begin(stale, 0.0)


class TestObservations:
    def test_what_the_checker_saw_is_recorded(self):
        machine = Machine()
        machine.group(register(checks=(HTTP,)))
        group = machine.observe(
            SERVICE, ObserveCheck(instance="a", incarnation=0, check="ready", status="unhealthy", cause="503")
        )
        assert (group.observed, len(group.batch)) == (1, 1)
        [told] = machine.commit(group)
        assert (told.actor, told.event.cause, told.event.to) == ("muster/checker", "503", "unhealthy")

    def test_what_it_saw_of_who_has_gone_is_not(self):
        machine = Machine()
        late = ObserveCheck(instance="a", incarnation=0, check="x", status="unhealthy")
        group = machine.observe(SERVICE, late)
        assert (group.observed, group.batch) == (1, [])


class TestOffsets:
    def test_the_commands_offset_rides_on_the_batch(self):
        machine = Machine()
        machine.group(register(), drain(), offset=41)
        assert machine.documents()[-1]["commandsoffset"] == "43"
        assert machine.recovered().commands_offset == 43

    def test_so_does_the_topic_that_it_is_of(self):
        machine = Machine()
        machine.group(register("a", "1"), offset=41)
        machine.partition.consume("another", 0)
        machine.group(register("b", "2"))
        assert machine.documents()[-1]["commandstopic"] == "another"
        assert (machine.recovered().commands_topic, machine.recovered().commands_offset) == ("another", 0)
        machine.group(register("c", "3"), offset=0)
        assert (machine.recovered().commands_topic, machine.recovered().commands_offset) == ("another", 1)

    def test_a_group_of_refusals_moves_it_in_memory(self):
        machine = Machine()
        machine.group(drain(), offset=41)
        machine.group(register())
        assert machine.documents()[-1]["commandsoffset"] == "42"


class TestRecovery:
    def test_outcomes_of_the_log_are_told_again(self):
        machine = Machine()
        answers = machine.group(register(), drain()) + machine.group(envelope("3", UndrainInstance(instance="a")))
        assert machine.recovered().recent() == answers

    def test_a_command_of_several_events_is_answered_with_the_last_one_once(self):
        machine = Machine()
        answers = machine.group(register(), register(id_="2", port=9090, zone="eu-1b", weight=3))
        recovered = machine.recovered()
        assert (answers[1].position, answers[1].version) == (4, 3)
        assert recovered.recent() == answers

    def test_an_answer_is_the_same_after_a_recovery_whatever_came_later_in_its_batch(self):
        machine = Machine()
        answers = machine.group(
            register(),
            envelope("2", SetMaintenance(instance="a")),
            envelope("3", DeregisterInstance(instance="a")),
            register("a", "4"),
        )
        recovered = machine.recovered()
        assert [recovered.ids.recall(answer.id)[0] for answer in answers] == answers

    def test_history_that_cannot_be_stops_the_partition_at_its_position(self):
        machine = Machine()
        machine.group(register())
        events = InstanceDrainStarted(instance="a"), InstanceDrainEnded(instance="nobody")
        stored, cursor = sealed_batch(machine.partition.cursor, *events)
        impossible = Batch(tuple((number, _document(record.state)) for number, record in enumerate(stored, 2)), cursor)
        before = facts(machine.partition)
        with pytest.raises(Corrupt, match="nobody, which is not registered") as stopped:
            machine.partition.fold(impossible)
        assert stopped.value.context["position"] == 3
        assert facts(machine.partition) == before, "nothing of a batch is folded that cannot be folded whole"

    def test_an_event_of_a_later_version_of_muster_stops_the_partition_with_nothing_folded(self):
        machine = Machine()
        told = recorded(InstanceRegistered(instance="a", incarnation=0, spec=spec(), health="healthy"))
        stored, cursor = sealed_batch(machine.partition.cursor, told.event, told.event)
        documents = [_document(record.state) for record in stored]
        documents[1]["type"] = "muster.instance.registered.v2"
        before = facts(machine.partition)
        with pytest.raises(Corrupt) as stopped:
            machine.partition.fold(Batch(tuple(enumerate(documents, start=1)), cursor))
        assert stopped.value.context["position"] == 2
        assert facts(machine.partition) == before

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.lists(
                    st.builds(
                        envelope,
                        st.integers(0, 40).map(str),
                        public_commands,
                        service=st.sampled_from(["orders", "users"]),
                        version=st.none() | st.none() | st.integers(0, 9),
                    ),
                    max_size=6,
                ),
                st.sampled_from(["committed", "committed", "rolled back", "claimed again"]),
                st.sampled_from([0.0, 0.0, 6.0]),
            ),
            max_size=8,
        )
    )
    def test_a_fold_of_the_log_gives_the_same_state_ids_and_answers_as_the_live_machine(self, groups):
        machine, accepted, offset = Machine(batch_records_max=12), {}, 0
        for envelopes, fate, seconds in groups:
            machine.passes(seconds)
            group = machine.step(*envelopes, offset=offset)
            answers = group.answers
            offset += len(answers)
            if fate == "rolled back":
                machine.partition.rollback(group)
                continue
            machine.commit(group)
            accepted |= {
                answer.id: answer for answer in answers if answer.status == "accepted" and not answer.duplicate
            }
            if fate == "claimed again":
                machine.claims("w2", machine.recovered())
        recovered = machine.recovered()
        assert facts(recovered) == facts(machine.partition)
        assert {id_: recovered.ids.recall(id_)[0] for id_, _ in recovered.ids.recorded()} == accepted
        assert (recovered.commands_offset or 0) <= (machine.partition.commands_offset or 0)


def _document(value):
    return json.loads(value)
