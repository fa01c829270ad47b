"""The OpenAPI document: FastAPI's for its own routes, and a literal table for the hot ones, which it does not see."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from domain.instance import Spec
from domain.message import Command
from domain.service import (
    ClearMaintenance,
    DeregisterInstance,
    DrainInstance,
    Heartbeat,
    RegisterInstance,
    ReportHealth,
    SetMaintenance,
    UndrainInstance,
)
from workers.http.model import CommandBatch, InstanceList, InstanceWhole, OutcomeList, ProblemShape, Written

_REF: Final = "#/components/schemas/{model}"
_INSTANCE: Final = "/v1/services/{service}/instances/{instance}"


@dataclass(frozen=True, slots=True)
class Operation:
    """A hot route. `body` is a command, whose fields but the instance are the body, or None."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None
    body: type[BaseModel] | None = None
    reasoned: bool = False


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
    Operation("get", "/v1/discover/{service}", "The instances that can take traffic", InstanceList),
    Operation("get", "/v1/watch", "Follow instances: current state, then changes (server-sent events)", None),
    Operation("post", "/v1/commands", "Run published commands; outcomes in their order", OutcomeList, CommandBatch),
)

Parameter = tuple[str, str, str, dict[str, Any]]
_TIMEOUT: Final[Parameter] = ("query", "timeout_seconds", "How long to wait at most", {"type": "number", "maximum": 60})
_LEVEL: Final[Parameter] = (
    "query",
    "consistency",
    "How current the answer has to be",
    {"enum": ["eventual", "session", "causal", "strong"], "default": "eventual"},
)
_TOKEN: Final[Parameter] = ("header", "Muster-Token", "What the answer must have seen", {"type": "string"})
_READ: Final[tuple[Parameter, ...]] = (_LEVEL, _TIMEOUT, _TOKEN)
_WRITE: Final[tuple[Parameter, ...]] = (
    ("header", "Idempotency-Key", "The command's id: a repeat gets the first answer", {"type": "string"}),
    ("header", "If-Match", "The instance's version that the caller expects", {"type": "string"}),
    ("header", "Muster-Actor", "Who asks", {"type": "string"}),
    ("header", "Muster-Reason", "Why", {"type": "string"}),
    _TIMEOUT,
    _TOKEN,
)
_WATCH: Final[tuple[Parameter, ...]] = (
    ("query", "service", "Only this service's instances", {"type": "string"}),
    ("query", "after", "The token to resume from", {"type": "string"}),
    ("header", "Last-Event-ID", "The same, as browsers send it", {"type": "string"}),
    *_READ,
)


def with_hot_routes(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the hot routes and their models in it."""
    components = document.setdefault("components", {}).setdefault("schemas", {})
    answers = dict.fromkeys(hot.answer for hot in HOT if hot.answer is not None)
    models: tuple[type[BaseModel], ...] = (*answers, CommandBatch, ProblemShape)
    _, schema = models_json_schema([(model, "serialization") for model in models], ref_template=_REF)
    components |= schema["$defs"]
    spec = TypeAdapter(Spec).json_schema(ref_template=_REF)
    components |= spec.pop("$defs", {})
    components["Spec"] = spec
    for hot in HOT:
        document["paths"].setdefault(hot.path, {})[hot.method] = _operation(hot)
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _response(ProblemShape, "A problem", "application/problem+json")
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document


def _operation(hot: Operation) -> dict[str, Any]:
    parameters: tuple[Parameter, ...] = ()
    if hot.answer is None:
        parameters, answer = _WATCH, {"description": "A stream", "content": {"text/event-stream": {}}}
    else:
        answer = _response(hot.answer, "Done" if hot.answer is Written else "The answer", "application/json")
        parameters = _WRITE if hot.answer is Written else _READ if hot.method == "get" else ()
    operation: dict[str, Any] = {
        "tags": ["reading" if hot.method == "get" else "registry"],
        "summary": hot.summary,
        "operationId": f"{hot.method} {hot.path}".translate(_TO_ID),
        "parameters": [*_path_parameters(hot.path), *map(_parameter, parameters)],
        "responses": {"200": answer},
    }
    if hot.body is not None:
        operation["requestBody"] = {
            "required": hot.body in (RegisterInstance, ReportHealth, CommandBatch),
            "content": {"application/json": {"schema": _body(hot.body, reasoned=hot.reasoned)}},
        }
    return operation


_TO_ID: Final = str.maketrans({" ": "_", "/": "_", "{": None, "}": None})


def _body(body: type[BaseModel], *, reasoned: bool) -> dict[str, Any]:
    if body is RegisterInstance:
        return {"$ref": _REF.format(model="Spec")}
    if not issubclass(body, Command):
        return {"$ref": _REF.format(model=body.__name__)}
    schema: dict[str, Any] = body.model_json_schema(ref_template=_REF)
    del schema["properties"]["instance"]
    schema["required"] = [name for name in schema["required"] if name != "instance"]
    if not schema["required"]:
        del schema["required"]
    if reasoned:
        schema["properties"]["reason"] = {"type": "string", "maxLength": 1024}
    return schema


def _path_parameters(path: str) -> list[dict[str, Any]]:
    pattern = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
    return [
        {"in": "path", "name": name, "required": True, "schema": pattern}
        for name in ("service", "instance")
        if f"{{{name}}}" in path
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    where, name, description, schema = parameter
    return {"in": where, "name": name, "description": description, "schema": schema}


def _response(model: type[BaseModel], description: str, media: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"description": description, "content": {media: {"schema": schema}}}
