"""The instances of a host, as its folder of TOML files says: every `*.toml` of it, each with any number of tables `[[instance]]`.
Those that begin with a dot are not meant, as in a shell: editors keep their own things there.

    [[instance]]
    service = "orders"
    instance = "orders-1"
    address = "10.0.0.7"
    port = 8080
    lease_seconds = 30                  # 30 unless it says otherwise; also tags, metadata, zone, weight, deregister_after_seconds

    [[instance.check]]                  # run here, beside the instance; `http`, `https` or `tcp`, with the fields of such a check
    kind = "http"
    url = "http://127.0.0.1:8080/health"

All files are read, or nothing is: whatever is wrong is told with its file, table and field.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Final

from domain.registry.admission import admit, admit_heartbeats
from muster.wire.error import InvalidInstance, MusterError
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from muster.wire.registry.spec import HeartbeatsVia, Spec, spec_from
from muster.wire.telemetry.heartbeats import name_from

LEASE_SECONDS: Final = 30.0
instances_max: Final = 5_000
_OF_A_CHECK: Final = re.compile(r"checks\.(\d+)(?:\.|: )")
_NAMES: Final = ("service", "instance")
_FIELDS: Final = (
    "address",
    "port",
    "tags",
    "metadata",
    "zone",
    "weight",
    "lease_seconds",
    "deregister_after_seconds",
)

Key = tuple[str, str]
"""A service, and one of its instances."""

LocalCheck = HttpCheck | TcpCheck


@dataclass(frozen=True, slots=True)
class HostInstance:
    """An instance as the files want it: what is registered, and what is checked here. `lease_seconds` is that of the spec."""

    service: str
    instance: str
    spec: Spec
    checks: tuple[LocalCheck, ...]
    lease_seconds: float


def read_folder(folder: Path, heartbeats: HeartbeatsVia = "direct") -> dict[Key, HostInstance]:
    """The instances that the files of the folder want; `heartbeats`: how they will be heard. Raises InvalidInstance."""
    found: dict[Key, HostInstance] = {}
    where: dict[Key, str] = {}
    for file in _files(folder):
        for number, one in enumerate(_tables(file), 1):
            place = f"{file.name}: instance {number}"
            told = instance_from(one, place, heartbeats)
            key = told.service, told.instance
            # Which of the two is meant nobody can know, and they would take turns.
            if key in where:
                raise InvalidInstance(f"{place}: {key[0]}/{key[1]} stands in {where[key]} too")
            found[key], where[key] = told, place
    if len(found) > instances_max:
        raise InvalidInstance(f"{folder}: {len(found)} instances; one process takes {instances_max}")
    return found


def _files(folder: Path) -> list[Path]:
    try:
        # Not by a glob: in a folder that may not be read it finds nothing, and all instances would be taken out.
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInstance(f"{folder}: there is no such folder") from None
    except OSError as error:
        raise InvalidInstance(f"{folder}: it cannot be read: {error.strerror}") from None
    return [folder / name for name in names if name.endswith(".toml") and not name.startswith(".")]


def _tables(file: Path) -> list[object]:
    try:
        # A pipe would be waited for, and a device has no end.
        if not S_ISREG(file.stat().st_mode):
            raise InvalidInstance(f"{file.name}: it is no file")
        # TOML is UTF-8 whatever the locale says, and some editors put a mark in front of it.
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidInstance(f"{file.name}: it cannot be read: {error.strerror}") from None
    except RecursionError:
        raise InvalidInstance(f"{file.name}: it is no TOML: it is nested too deep") from None
    # Wrong TOML, bytes that are no UTF-8, a number of thousands of digits: all are this, and each says what it is.
    except ValueError as error:
        raise InvalidInstance(f"{file.name}: it is no TOML: {error}") from None
    # A table with a typing mistake would otherwise take out an instance without a word.
    if unknown := document.keys() - {"instance"}:
        raise InvalidInstance(f"{file.name}: {min(unknown)}: there is no such field; tables are [[instance]]")
    tables = document.get("instance", [])
    if not isinstance(tables, list):
        raise InvalidInstance(f"{file.name}: instance: it must be a list of tables, [[instance]] and not [instance]")
    return tables


def instance_from(table: object, place: str, heartbeats: HeartbeatsVia = "direct") -> HostInstance:
    """The instance of a table, which stands at the place. Raises InvalidInstance."""
    if not isinstance(table, Mapping):
        raise InvalidInstance(f"{place}: it must be a table")
    if unknown := table.keys() - {*_NAMES, *_FIELDS, "check"}:
        raise InvalidInstance(f"{place}: {min(unknown)}: there is no such field")
    fields = {name: table[name] for name in _FIELDS if name in table}
    try:
        service, instance = (name_from(table.get(field), field) for field in _NAMES)
        whole = spec_from(
            {"lease_seconds": LEASE_SECONDS, "heartbeats": heartbeats, "checks": table.get("check", ()), **fields}
        )
        admit(whole.checks, ())
        admit_heartbeats(whole)
    except MusterError as error:
        raise InvalidInstance(f"{place}: {_counted(error.detail)}") from None
    checks: list[LocalCheck] = []
    # A ttl check is kept by heartbeats, and those are sent whatever the instance does.
    for number, check in enumerate(whole.checks, 1):
        if isinstance(check, TtlCheck):
            raise InvalidInstance(f"{place}: check {number}: kind: http, https or tcp; heartbeats are sent anyway")
        checks.append(check)
    assert whole.lease_seconds is not None, "TOML has no null, and there is a default"
    # The controller checks nothing of it: it may not even reach where this host's checks reach.
    return HostInstance(service, instance, replace(whole, checks=()), tuple(checks), whole.lease_seconds)


def _counted(detail: str) -> str:
    """`checks.0.url: …` as people count and as the file calls it: `check 1: url: …`."""
    found = _OF_A_CHECK.match(detail)
    return detail if found is None else f"check {int(found[1]) + 1}: {detail[found.end() :]}"
