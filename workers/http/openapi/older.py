"""Operations in the form that the OpenAPI document had first, which generated clients know by their names.

It was FastAPI's: ids are made of the summary and the path, parameters carry titles, and what is in a thing comes before its type.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema

from workers.http.exchange import Reading
from workers.http.routing import Route

Schema = dict[str, Any]
"""A part of the document, as JSON."""

_TOKEN: Final[Schema] = {
    "name": "Muster-Token",
    "in": "header",
    "required": False,
    "schema": {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "What the answer must have seen.",
        "title": "Muster-Token",
    },
    "description": "What the answer must have seen.",
}


_FIRST: Final = ("items", "properties", "additionalProperties")


class _Unsorted(GenerateJsonSchema):
    """Schemas with their keys in the order in which they are made."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        """Leave the order."""
        return value


def operation(route: Route) -> Schema:
    """The operation of a route with a description."""
    id_ = re.sub(r"\W", "_", f"{route.summary.lower()}{route.path}") + f"_{route.method.lower()}"
    parameters = [*_path_parameters(route.path), *_query_parameters(route)]
    return {
        "tags": [route.tag],
        "summary": route.summary,
        "description": route.description,
        "operationId": id_,
        **({"parameters": parameters} if parameters else {}),
        "responses": {"200": {"description": "Successful Response", **_content(route.answer, id_)}},
    }


def schemas(routes: Iterable[Route], ref: str) -> Schema:
    """The schemas of the answers of these routes."""
    models = [(route.answer, "serialization") for route in routes if _is_model(route.answer)]
    _, schema = models_json_schema(models, ref_template=ref, schema_generator=_Unsorted)  # type: ignore[arg-type]
    return {name: _formed(one) for name, one in schema.get("$defs", {}).items()}


def _is_model(answer: type | None) -> bool:
    return isinstance(answer, type) and issubclass(answer, BaseModel)


def _content(answer: type | None, id_: str) -> Schema:
    if answer is None:
        return {}
    if _is_model(answer):
        schema: Schema = {"$ref": f"#/components/schemas/{answer.__name__}"}
    else:
        schema = _formed(TypeAdapter(answer).json_schema()) | {"title": f"Response {id_.replace('_', ' ').title()}"}
    return {"content": {"application/json": {"schema": schema}}}


def _path_parameters(path: str) -> Iterator[Schema]:
    for name in re.findall(r"\{(\w+)\}", path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "title": name.title()}}


def _query_parameters(route: Route) -> Iterator[Schema]:
    if route.query is None:
        return
    schema = _formed(route.query.model_json_schema(schema_generator=_Unsorted))
    for name, property_ in schema["properties"].items():
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": property_}
    if issubclass(route.query, Reading):
        yield _TOKEN


def _formed(schema: Any) -> Any:
    """The schema without defaults of null, and with what is in a thing before its type."""
    if isinstance(schema, list):
        return [_formed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    keys = [*(key for key in _FIRST if isinstance(schema.get(key), dict | bool)), *schema]
    return {key: _part(key, schema[key]) for key in keys if key != "default" or schema[key] is not None}


def _part(key: str, value: Any) -> Any:
    # Below `properties` the keys are names of fields, and a field may be called `default` or `items`.
    return {name: _formed(one) for name, one in value.items()} if key == "properties" else _formed(value)
