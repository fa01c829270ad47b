"""Instances as a watch tells them, and the changes of them."""

from datetime import UTC, datetime
from typing import Any

from muster import Appeared, Changed, Instance, Removed, Snapshot

AT = datetime(2026, 1, 1, tzinfo=UTC)


def instance(name: str, incarnation: int = 1, **fields: Any) -> Instance:
    told: dict[str, Any] = {"address": "10.0.0.1", "port": 80, "discoverable": True, **fields}
    health = "healthy" if told["discoverable"] else "unhealthy"
    return Instance(
        service="users",
        instance=name,
        incarnation=incarnation,
        health=health,
        health_since=AT,
        registered_at=AT,
        version=1,
        position=1,
        **told,
    )


def snapshot(*instances: Instance) -> Snapshot:
    return Snapshot(instances, "0:1")


def appeared(one: Instance) -> Appeared:
    return Appeared(one, "0:2")


def changed(one: Instance) -> Changed:
    return Changed(one, one, "0:2")


def removed(one: Instance) -> Removed:
    return Removed(one, "requested", "0:2")
