"""The routes of instances that FastAPI does not see, for the OpenAPI document: a literal table."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from domain.registry.service import (
    ClearMaintenance,
    DeregisterInstance,
    DrainInstance,
    Heartbeat,
    RegisterInstance,
    ReportHealth,
    SetMaintenance,
    UndrainInstance,
)
from workers.http.exchange import Reading
from workers.http.model import CommandBatch, InstanceList, InstanceWhole, OutcomeList, ServiceList, Written
from workers.http.registry.reads import InstancesQuery

_INSTANCE: Final = "/v1/services/{service}/instances/{instance}"


@dataclass(frozen=True, slots=True)
class Operation:
    """A route. `body` is a command, whose fields are the body but for those that the path names, or None; `answer` None: it
    streams. `query` are the parameters that it takes, where they are more than all writes or reads take.
    """

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None
    body: type[BaseModel] | None = None
    reasoned: bool = False
    query: type[Reading] | None = None
    tag: str | None = None


HOT: Final = (
    Operation("put", _INSTANCE, "Register an instance, or change its registration", Written, RegisterInstance),
    Operation("delete", _INSTANCE, "Deregister an instance", Written, DeregisterInstance),
    Operation("get", _INSTANCE, "One instance, with the last output of its checks", InstanceWhole),
    Operation("put", f"{_INSTANCE}/health", "Report an instance's health", Written, ReportHealth),
    Operation("post", f"{_INSTANCE}/heartbeat", "Renew an instance's lease and ttl checks", Written, Heartbeat),
    Operation("put", f"{_INSTANCE}/maintenance", "Begin maintenance", Written, SetMaintenance, reasoned=True),
    Operation("delete", f"{_INSTANCE}/maintenance", "End maintenance", Written, ClearMaintenance, reasoned=True),
    Operation("put", f"{_INSTANCE}/drain", "Begin to drain", Written, DrainInstance, reasoned=True),
    Operation("delete", f"{_INSTANCE}/drain", "End draining", Written, UndrainInstance, reasoned=True),
    Operation("get", "/v1/services", "All services with instances, by name", ServiceList),
    Operation(
        "get",
        "/v1/services/{service}/instances",
        "The instances of a service that match; an empty list when there is none",
        InstanceList,
        query=InstancesQuery,
    ),
    Operation("get", "/v1/discover/{service}", "The instances that can take traffic", InstanceList),
    Operation("get", "/v1/watch", "Follow instances: current state, then changes (server-sent events)", None),
    Operation("post", "/v1/commands", "Run published commands; outcomes in their order", OutcomeList, CommandBatch),
)
