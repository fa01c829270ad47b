"""The OpenAPI document, made from the table of routes."""

import re
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from muster.wire.command import Command
from muster.wire.registry.spec import Spec
from muster.wire.stream import NAME_PATTERN
from workers.http.exchange import Reading
from workers.http.model import ProblemShape, Written
from workers.http.openapi import older
from workers.http.openapi.older import Schema
from workers.http.routing import Route

_REF: Final = "#/components/schemas/{model}"
Parameter = tuple[str, str, str, Schema]
_TIMEOUT: Final[Parameter] = ("query", "timeout_seconds", "How long to wait at most", {"type": "number", "maximum": 60})
_LEVEL: Final[Parameter] = (
    "query",
    "consistency",
    "How current the answer has to be",
    {"enum": ["eventual", "session", "causal", "strong"], "default": "eventual"},
)
_TOKEN: Final[Parameter] = ("header", "Muster-Token", "What the answer must have seen", {"type": "string"})
_CLUSTER: Final[Parameter] = (
    "header",
    "Muster-Cluster",
    "The cluster that is meant; a controller of another one refuses (421, WrongCluster)",
    {"type": "string"},
)
_READ: Final[tuple[Parameter, ...]] = (_LEVEL, _TIMEOUT, _TOKEN, _CLUSTER)
_WRITE: Final[tuple[Parameter, ...]] = (
    ("header", "Idempotency-Key", "The command's id: a repeat gets the first answer", {"type": "string"}),
    ("header", "If-Match", "The instance's version that the caller expects", {"type": "string"}),
    ("header", "Muster-Actor", "Who asks", {"type": "string"}),
    ("header", "Muster-Reason", "Why", {"type": "string"}),
    _TIMEOUT,
    _TOKEN,
    _CLUSTER,
)
_RESUME: Final[Parameter] = ("header", "Last-Event-ID", "The same, as browsers send it", {"type": "string"})
_WATCH: Final[tuple[Parameter, ...]] = (
    ("query", "service", "Only this service's instances", {"type": "string"}),
    ("query", "after", "The token to resume from", {"type": "string"}),
    _RESUME,
    *_READ,
)
_NUMBERS: Final = ("shard", "number")
_BESIDE: Final = (ProblemShape,)
"""Shapes that no route has as its answer or its body."""


def document(routes: Sequence[Route]) -> Schema:
    """The document of these routes."""
    documented = [route for route in routes if route.documented]
    paths: dict[str, Schema] = {}
    schemas = _schemas(documented)
    for route in documented:
        made = older.operation(route) if route.description is not None else _operation(route)
        made["responses"]["default"] = _response("ProblemShape", "A problem", "application/problem+json")
        schemas |= _parts_of_body(made)
        paths.setdefault(route.path, {})[route.method.lower()] = made
    return {
        "openapi": "3.1.0",
        "info": {"title": "muster", "version": "1"},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _parts_of_body(operation: Schema) -> Schema:
    """Takes the schemas of a body's parts out of it: references lead to the document's components, and to nowhere else."""
    content = operation.get("requestBody", {"content": {}})["content"]
    parts: Schema = {}
    for body in content.values():
        parts |= body["schema"].pop("$defs", {})
    return parts


def _schemas(routes: Sequence[Route]) -> Schema:
    components = older.schemas([route for route in routes if route.description is not None], _REF)
    ours = [route for route in routes if route.description is None]
    found = dict.fromkeys(model for route in ours for model in (route.answer, route.body) if model is not None)
    # A command stands in its operation, without the fields that are in the path.
    models = [model for model in (*found, *_BESIDE) if issubclass(model, BaseModel) and not issubclass(model, Command)]
    _, schema = models_json_schema([(model, "serialization") for model in models], ref_template=_REF)
    components |= schema["$defs"]
    spec = TypeAdapter(Spec).json_schema(ref_template=_REF)
    components |= spec.pop("$defs", {})
    # Spec is a dataclass and no model, so it is not among those above.
    components["Spec"] = spec
    return components


def _operation(route: Route) -> Schema:
    operation: Schema = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": f"{route.method.lower()} {route.path}".translate(_TO_ID),
        "parameters": [*_path_parameters(route.path), *_own_parameters(route), *map(_parameter, _parameters(route))],
        "responses": {"200": _answer(route)},
    }
    schema = _body(route)
    if schema is not None:
        # No body is read as an empty object, so one without required fields can be left out.
        required = "$ref" in schema or "required" in schema
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return operation


def _answer(route: Route) -> Schema:
    if route.answer is None:
        return {"description": "A stream", "content": {"text/event-stream": {}}}
    description = "Done" if issubclass(route.answer, Written) else "The answer"
    return _response(route.answer.__name__, description, "application/json")


def _parameters(route: Route) -> tuple[Parameter, ...]:
    """Those that all operations of its kind take."""
    if route.answer is None:
        # Only the watch of instances has no model of its query: its parameters are written out in `_WATCH`.
        return (_RESUME, *_READ) if route.query is not None else _WATCH
    if issubclass(route.answer, Written):
        return _WRITE
    if route.method != "GET":
        return ()
    # What is asked without them is in no log, and nothing of it can be waited for.
    return _READ if route.query is None or issubclass(route.query, Reading) else (_CLUSTER,)


def _own_parameters(route: Route) -> list[Schema]:
    """Those that its query has beside them."""
    schema: Schema = route.query.model_json_schema() if route.query is not None else {"properties": {}}
    found = []
    for name, property_ in schema["properties"].items():
        if name not in Reading.model_fields:
            plain = {key: value for key, value in property_.items() if key not in ("title", "description")}
            parameter = _parameter(("query", name, property_["description"], plain))
            found.append({**parameter, "required": True} if name in schema.get("required", ()) else parameter)
    return found


_TO_ID: Final = str.maketrans({" ": "_", "/": "_", "{": None, "}": None})


def _body(route: Route) -> Schema | None:
    """The schema of the body: the fields of the command (or of what stands for it) that are not in the path."""
    fields = route.body or route.command
    if fields is None:
        return None
    if not issubclass(fields, Command):
        return {"$ref": _REF.format(model=fields.__name__)}
    schema: Schema = fields.model_json_schema(ref_template=_REF)
    properties = schema.setdefault("properties", {})
    in_path = [name for name in _names(route.path) if properties.pop(name, None) is not None]
    schema["required"] = [name for name in schema.get("required", ()) if name not in in_path]
    # `_operation` takes a list here, even an empty one, for a body that must not be left out.
    if not schema["required"]:
        del schema["required"]
    if route.reasoned:
        properties["reason"] = {"type": "string", "maxLength": 1024}
    return schema


def _names(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _path_parameters(path: str) -> list[Schema]:
    name, number = {"type": "string", "pattern": NAME_PATTERN}, {"type": "integer", "minimum": 0}
    return [
        {"in": "path", "name": found, "required": True, "schema": number if found in _NUMBERS else name}
        for found in _names(path)
    ]


def _parameter(parameter: Parameter) -> Schema:
    where, name, description, schema = parameter
    return {"in": where, "name": name, "description": description, "schema": schema}


def _response(model: str, description: str, media: str) -> Schema:
    return {"description": description, "content": {media: {"schema": {"$ref": _REF.format(model=model)}}}}
