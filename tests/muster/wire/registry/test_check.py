"""Checks: limits, names and how the worst wins."""

import pytest
from pydantic import TypeAdapter, ValidationError

from muster.wire.registry.check import CHECKS, Check, HttpCheck, TcpCheck, TtlCheck, named, worst

CHECK = TypeAdapter(Check)
HTTP = {"kind": "http", "url": "http://host/health"}
TCP = {"kind": "tcp", "host": "host", "port": 80}
TTL = {"kind": "ttl", "ttl_seconds": 5}


@pytest.mark.parametrize(
    ("statuses", "health"),
    [
        ([], "healthy"),
        (["healthy"], "healthy"),
        (["healthy", "unknown"], "unknown"),
        (["unknown", "unhealthy", "healthy"], "unhealthy"),
    ],
)
def test_the_worst_status_wins(statuses, health):
    assert worst(statuses) == health


@pytest.mark.parametrize(
    "check",
    [
        {**HTTP, "url": "ftp://host/"},
        {**HTTP, "url": "http://"},
        {**HTTP, "url": "http://host:99999/"},
        {**HTTP, "url": "http://host/" + "x" * 2048},
        {**HTTP, "method": "TRACE"},
        {**HTTP, "expected_status": 99},
        {**HTTP, "expected_status": 600},
        {**HTTP, "body_match": ""},
        {**HTTP, "interval_seconds": 0.09},
        {**HTTP, "interval_seconds": 86_401},
        {**HTTP, "timeout_seconds": 0},
        {**HTTP, "timeout_seconds": 3_601},
        {**HTTP, "healthy_after": 0},
        {**HTTP, "unhealthy_after": 101},
        {**HTTP, "nonsense": 1},
        {**HTTP, "name": "with space"},
        {**HTTP, "name": "newline\n"},
        {**TCP, "host": ""},
        {**TCP, "port": 0},
        {**TCP, "port": 65_536},
        {**TCP, "url": "http://host/"},
        {**TTL, "ttl_seconds": 0.09},
        {**TTL, "ttl_seconds": 86_401},
        {**TTL, "interval_seconds": 1},
        {"kind": "icmp"},
        {"url": "http://host/"},
    ],
    ids=str,
)
def test_a_check_outside_its_limits_is_invalid(check):
    with pytest.raises(ValidationError):
        CHECK.validate_python(check)


@pytest.mark.parametrize(
    "check",
    [
        HTTP,
        {**HTTP, "interval_seconds": 0.1, "timeout_seconds": 0.01, "expected_status": 100, "unhealthy_after": 100},
        {**TCP, "port": 1},
        {**TCP, "port": 65_535},
        {**TTL, "ttl_seconds": 0.1},
    ],
    ids=str,
)
def test_a_check_at_its_limits_is_valid(check):
    assert CHECK.validate_json(CHECK.dump_json(CHECK.validate_python(check))) == CHECK.validate_python(check)


def test_a_check_is_named_by_its_kind_and_numbered_from_the_second_on():
    host = {"host": "host", "port": 80}
    assert [
        check.name for check in named((TcpCheck(**host), TtlCheck(ttl_seconds=1), TcpCheck(**host), TcpCheck(**host)))
    ] == ["tcp", "ttl", "tcp-2", "tcp-3"]


def test_a_given_name_is_kept_and_not_given_twice():
    checks = named((TcpCheck(host="host", port=80, name="ttl"), TtlCheck(ttl_seconds=1), TtlCheck(ttl_seconds=2)))
    assert [check.name for check in checks] == ["ttl", "ttl-2", "ttl-3"]


def test_two_checks_of_one_name_are_invalid():
    with pytest.raises(ValueError, match="two checks are called 'x'"):
        named((TtlCheck(ttl_seconds=1, name="x"), TcpCheck(host="host", port=80, name="x")))


def test_the_name_of_reported_health_is_kept():
    with pytest.raises(ValueError, match="kept for reported health"):
        named((HttpCheck(url="http://host/", name="reported"),))


def test_checks_survive_json():
    checks = (HttpCheck(url="http://host/", name="h"), TcpCheck(host="host", port=80), TtlCheck(ttl_seconds=1.5))
    assert CHECKS.validate_json(CHECKS.dump_json(checks)) == checks
