"""The data set: instances with 5 tags, 10 metadata entries and 2 checks; keys with values of 1 KiB."""

from typing import Any, Final

SERVICES: Final = 100
VALUE_BYTES: Final = 1_024
REPORTS: Final = ("unhealthy", "healthy", "unhealthy")
"""What is reported of each instance, round by round: a rate over two seconds has less of its beginning and its end in it."""


def spec(number: int, *, checks: bool = True) -> dict[str, Any]:
    """What instance `number` says of itself when it registers. Its checks are ttl checks that outlast every run."""
    body: dict[str, Any] = {
        "address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        "port": 8080,
        "metadata": {f"key-{entry}": f"value-{entry}-of-{number}" for entry in range(10)},
        "tags": [f"tag-{tag}" for tag in range(4)] + [f"rack-{number % 40}"],
        "zone": f"zone-{number % 3}",
        "weight": 10,
    }
    if checks:
        body["checks"] = [
            {"kind": "ttl", "name": "beat", "ttl_seconds": 86_400.0},
            {"kind": "ttl", "ttl_seconds": 86_400.0},
        ]
    return body


def service(number: int, services: int = SERVICES) -> str:
    """The service of instance `number`."""
    return f"service-{number % services}"


def key(number: int) -> str:
    """The key of entry `number` of a keyspace."""
    return f"user-{number:09d}"


def value(number: int) -> bytes:
    """What entry `number` of a keyspace holds: 1 KiB."""
    return (b"%08d" % (number % 10**8)) * (VALUE_BYTES // 8)
