"""The traffic of a service: what is set, what is taken back, and what is refused."""

import pytest

from domain.catalogue import command_from
from domain.registry import traffic as decider
from domain.registry.traffic import (
    DECIDER,
    SetTraffic,
    TrafficEjectionSet,
    TrafficLimitSet,
    TrafficPolicySet,
    TrafficReportingSet,
    TrafficRetryShareSet,
    TrafficSlowStartSet,
)
from muster.wire.error import InvalidCommand
from muster.wire.registry.traffic import DEFAULTS, SETTINGS, TrafficSettings
from muster.wire.route import partition_of
from muster.wire.stream import root_of, service_stream, traffic_stream
from tests.given import given

ROUND_ROBIN = TrafficPolicySet(policy="round_robin")
EJECTION = TrafficEjectionSet(eject_after=3, eject_seconds=10.0)


def traffic(*events):
    return given(*events, decider=decider)


def test_each_kind_of_setting_that_is_given_is_an_event_by_its_name():
    every = SetTraffic(
        policy="random",
        slow_start_seconds=30.0,
        eject_after=3,
        eject_seconds=2.5,
        limit=False,
        in_flight_max=500,
        retry_share=0.1,
        report_seconds=10.0,
    )
    traffic().when(every).then(
        TrafficPolicySet(policy="random"),
        TrafficSlowStartSet(slow_start_seconds=30.0),
        TrafficEjectionSet(eject_after=3, eject_seconds=2.5),
        TrafficLimitSet(limit=False, in_flight_max=500),
        TrafficRetryShareSet(retry_share=0.1),
        TrafficReportingSet(report_seconds=10.0),
    )


def test_what_is_left_out_stays_as_it_is():
    traffic(ROUND_ROBIN, EJECTION).when(SetTraffic(eject_after=7)).then(
        TrafficEjectionSet(eject_after=7, eject_seconds=10.0)
    )


def test_what_is_so_already_is_no_event():
    traffic(ROUND_ROBIN, EJECTION).when(SetTraffic(policy="round_robin", eject_after=3)).then()


def test_a_setting_is_taken_back_by_its_name_and_others_of_its_kind_stay():
    traffic(ROUND_ROBIN, EJECTION).when(SetTraffic(limit=True, default=("policy", "eject_seconds"))).then(
        TrafficPolicySet(policy=None),
        TrafficEjectionSet(eject_after=3, eject_seconds=None),
        TrafficLimitSet(limit=True, in_flight_max=None),
    )


def test_to_take_back_what_was_never_set_is_no_event():
    traffic().when(SetTraffic(default=("policy",))).then()


def test_a_setting_may_be_false_or_zero_and_is_set_all_the_same():
    off = SetTraffic(eject_after=0, limit=False, retry_share=0.0, slow_start_seconds=0.0, report_seconds=0.0)
    traffic().when(off).then(
        TrafficSlowStartSet(slow_start_seconds=0.0),
        TrafficEjectionSet(eject_after=0, eject_seconds=None),
        TrafficLimitSet(limit=False, in_flight_max=None),
        TrafficRetryShareSet(retry_share=0.0),
        TrafficReportingSet(report_seconds=0.0),
    )


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "data"),
        ({"policy": None}, "data"),
        ({"policy": "fastest"}, "policy"),
        ({"policy": "random", "default": ["policy"]}, "data"),
        ({"default": ["colour"]}, "default.0"),
        ({"slow_start_seconds": -1.0}, "slow_start_seconds"),
        ({"slow_start_seconds": 3_600.5}, "slow_start_seconds"),
        ({"slow_start_seconds": "30"}, "slow_start_seconds"),
        ({"eject_seconds": float("inf")}, "eject_seconds"),
        ({"eject_after": -1}, "eject_after"),
        ({"eject_after": 1_001}, "eject_after"),
        ({"eject_after": True}, "eject_after"),
        ({"limit": 1}, "limit"),
        ({"in_flight_max": 0}, "in_flight_max"),
        ({"in_flight_max": 1_000_001}, "in_flight_max"),
        ({"retry_share": 1.5}, "retry_share"),
        ({"report_seconds": -1.0}, "report_seconds"),
        ({"report_seconds": 0.05}, "report_seconds"),
        ({"report_seconds": 10.5}, "report_seconds"),
        ({"report_seconds": True}, "report_seconds"),
        ({"retry": 0.1}, "retry"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(data, field):
    with pytest.raises(InvalidCommand) as refused:
        command_from(SetTraffic.type, data)
    assert refused.value.context["field"] == field


def test_what_can_be_set_has_one_list_of_names():
    settings = tuple(TrafficSettings.__dataclass_fields__)
    assert settings == SETTINGS == tuple(name for name in SetTraffic.model_fields if name != "default")


def test_the_built_in_defaults_could_be_set():
    command = SetTraffic(**{name: getattr(DEFAULTS, name) for name in SETTINGS})
    assert len(DECIDER.decide(command, DECIDER.initial)) == 6


@pytest.mark.parametrize("partitions", [1, 8, 1_000])
def test_it_lives_in_the_partition_of_its_service(partitions):
    assert root_of(traffic_stream("users")) == service_stream("users")
    assert partition_of("traffic/users", partitions) == partition_of("service/users", partitions)
