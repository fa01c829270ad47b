"""Every error survives every wire: as facts, as a problem, and in gRPC's metadata."""

import pytest

from muster.wire.error import BY_NAME, Corrupt, InvalidCommand, MusterError, NotReady, Refused, Timeout, Transient
from muster.wire.problem import error_from, facts_of, problem_from, status_of, verdict_of
from muster.wire.rpc import problem as rpc

STATUSES = {
    404: "ServiceNotFound InstanceNotFound KeyspaceNotFound ShardNotFound NodeNotFound SagaNotFound MigrationNotFound "
    "GroupNotFound MemberNotFound TrafficNotFound",
    409: "StaleIncarnation StaleEpoch NotOwner NodeCordoned NodeTaken MoveInProgress ShardPinned ChecksumMismatch "
    "VerbNotAllowed OtherLog DataLossRefused",
    410: "LogTrimmed",
    412: "VersionConflict",
    413: "TooLarge ShardOverflow",
    421: "WrongPartition WrongCluster",
    422: "Refused InvalidInstance InvalidCommand IdempotencyConflict InvalidShardKey",
    429: "ResourceExhausted",
    500: "MusterError Corrupt CursorRefused",
    503: "NoPrimary NoHealthyStandby NoAvailableInstances "
    "Transient NoHealthyInstances NoShardsAvailable NotReady Unreachable DataUnavailable ReadFailed WriteFailed Fenced "
    "Uncertain",
    504: "Timeout FailoverTimeout",
}


def the_same(one: MusterError, other: MusterError) -> bool:
    return (type(one), one.detail, one.context) == (type(other), other.detail, other.context)


def test_every_error_has_its_status() -> None:
    assert {name: status_of(error) for name, error in BY_NAME.items()} == {
        name: status for status, names in STATUSES.items() for name in names.split()
    }


@pytest.mark.parametrize("name", BY_NAME)
def test_an_error_survives_every_wire(name: str) -> None:
    error = BY_NAME[name]("it is so", partition=3, field="checks")
    assert the_same(error_from(facts_of(error)), error)
    assert the_same(error_from(problem_from(facts_of(error))), error)
    assert the_same(rpc.error_from(rpc.problem(error)), error)


def test_a_problem_has_the_fields_of_rfc_9457_in_their_order() -> None:
    problem = problem_from(facts_of(BY_NAME["VersionConflict"]("it is at 9", actual=9)))
    assert list(problem.items()) == [
        ("type", "urn:muster:VersionConflict"),
        ("title", "Version conflict"),
        ("actual", 9),
        ("detail", "it is at 9"),
        ("status", 412),
    ]


def test_a_name_of_a_newer_version_stays_in_the_detail() -> None:
    facts = {"name": "FluxInverted", "detail": "odd", "status": 409, "phase": 2}
    assert the_same(error_from(facts), MusterError("FluxInverted: odd", phase=2))
    assert the_same(error_from(facts, unknown=NotReady), NotReady("FluxInverted: odd", phase=2))


@pytest.mark.parametrize(("status", "family"), [(409, Refused), (503, Transient)])
def test_over_grpc_it_keeps_its_family(status: int, family: type[MusterError]) -> None:
    text = f'{{"name": "FluxInverted", "detail": "odd", "status": {status}}}'
    assert the_same(rpc.error_from(text), family("FluxInverted: odd"))


def test_only_a_refusal_is_final() -> None:
    assert verdict_of(InvalidCommand("no")) == "refused"
    assert [verdict_of(error("?")) for error in (NotReady, Timeout, Corrupt, MusterError)] == ["unknown"] * 4
