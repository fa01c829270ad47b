"""The OpenAPI document: FastAPI's for its own routes, and a literal table for the hot ones, which it does not see."""

import re
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from domain.registry.service import RegisterInstance
from muster.wire.command import Command
from muster.wire.spec import Spec
from muster.wire.stream import NAME_PATTERN
from workers.http.documented import HOT, Operation
from workers.http.documented_shards import SHARDS
from workers.http.exchange import Reading
from workers.http.model import CommandBatch, ProblemShape, Written
from workers.http.shards.model import ReportBatch

_REF: Final = "#/components/schemas/{model}"
TABLE: Final = (*HOT, *SHARDS)
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
_RESUME: Final[Parameter] = ("header", "Last-Event-ID", "The same, as browsers send it", {"type": "string"})
_WATCH: Final[tuple[Parameter, ...]] = (
    ("query", "service", "Only this service's instances", {"type": "string"}),
    ("query", "after", "The token to resume from", {"type": "string"}),
    _RESUME,
    *_READ,
)
_NUMBERS: Final = ("shard", "number")


def with_hot_routes(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the hot routes and their models in it."""
    components = document.setdefault("components", {}).setdefault("schemas", {})
    answers = dict.fromkeys(told.answer for told in TABLE if told.answer is not None)
    models: tuple[type[BaseModel], ...] = (*answers, CommandBatch, ReportBatch, ProblemShape)
    _, schema = models_json_schema([(model, "serialization") for model in models], ref_template=_REF)
    components |= schema["$defs"]
    spec = TypeAdapter(Spec).json_schema(ref_template=_REF)
    components |= spec.pop("$defs", {})
    components["Spec"] = spec
    for told in TABLE:
        document["paths"].setdefault(told.path, {})[told.method] = _operation(told)
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _response(ProblemShape, "A problem", "application/problem+json")
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document


def _operation(told: Operation) -> dict[str, Any]:
    if told.answer is None:
        answer: dict[str, Any] = {"description": "A stream", "content": {"text/event-stream": {}}}
    else:
        answer = _response(
            told.answer, "Done" if issubclass(told.answer, Written) else "The answer", "application/json"
        )
    operation: dict[str, Any] = {
        "tags": [told.tag or ("reading" if told.method == "get" else "registry")],
        "summary": told.summary,
        "operationId": f"{told.method} {told.path}".translate(_TO_ID),
        "parameters": [*_path_parameters(told.path), *_own_parameters(told), *map(_parameter, _parameters(told))],
        "responses": {"200": answer},
    }
    if told.body is not None:
        schema = _body(told.body, told.path, reasoned=told.reasoned)
        required = "$ref" in schema or "required" in schema
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(told: Operation) -> tuple[Parameter, ...]:
    """Those that all operations of its kind take."""
    if told.answer is None:
        return (_RESUME, *_READ) if told.query is not None else _WATCH
    if issubclass(told.answer, Written):
        return _WRITE
    return _READ if told.method == "get" else ()


def _own_parameters(told: Operation) -> list[dict[str, Any]]:
    """Those that its query has beside them."""
    schema: dict[str, Any] = told.query.model_json_schema() if told.query is not None else {"properties": {}}
    found = []
    for name, property_ in schema["properties"].items():
        if name not in Reading.model_fields:
            plain = {key: value for key, value in property_.items() if key not in ("title", "description")}
            parameter = _parameter(("query", name, property_["description"], plain))
            found.append({**parameter, "required": True} if name in schema.get("required", ()) else parameter)
    return found


_TO_ID: Final = str.maketrans({" ": "_", "/": "_", "{": None, "}": None})


def _body(body: type[BaseModel], path: str, *, reasoned: bool) -> dict[str, Any]:
    if body is RegisterInstance:
        return {"$ref": _REF.format(model="Spec")}
    if not issubclass(body, Command):
        return {"$ref": _REF.format(model=body.__name__)}
    schema: dict[str, Any] = body.model_json_schema(ref_template=_REF)
    properties = schema.setdefault("properties", {})
    in_path = [name for name in _names(path) if properties.pop(name, None) is not None]
    schema["required"] = [name for name in schema.get("required", ()) if name not in in_path]
    if not schema["required"]:
        del schema["required"]
    if reasoned:
        properties["reason"] = {"type": "string", "maxLength": 1024}
    return schema


def _names(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _path_parameters(path: str) -> list[dict[str, Any]]:
    name, number = {"type": "string", "pattern": NAME_PATTERN}, {"type": "integer", "minimum": 0}
    return [
        {"in": "path", "name": found, "required": True, "schema": number if found in _NUMBERS else name}
        for found in _names(path)
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    where, name, description, schema = parameter
    return {"in": where, "name": name, "description": description, "schema": schema}


def _response(model: type[BaseModel], description: str, media: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"description": description, "content": {media: {"schema": schema}}}
