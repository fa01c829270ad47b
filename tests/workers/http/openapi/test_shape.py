"""Shapes of answers follow from the dataclasses that clients read: they promise each field, and no other."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import Field, ValidationError

from workers.http.application import openapi_document
from workers.http.openapi.shape import shape

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """Something round."""

    size: int
    rim: str = "steel"


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """Something with wheels."""

    id: str
    speed: str = "slow"
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    by_place: dict[str, Wheel] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bus(Vehicle):
    """A vehicle for many."""

    line: int


@dataclass(frozen=True, kw_only=True)
class Row(Generic[Item]):
    """Things in a row."""

    items: tuple[Item, ...]


WHEEL = shape(Wheel, "WheelShape")
VEHICLE = shape(Vehicle, "VehicleItem", "A vehicle.", parts={Wheel: WHEEL})
ROUND = {"size": 1, "rim": "wood"}
BARE: dict[str, Any] = {"id": "a", "speed": "slow", "wheels": [], "spare": None, "by_place": {}, "notes": {}}


def test_what_a_client_can_do_without_is_promised_all_the_same() -> None:
    assert shape(Wheel, "X").model_json_schema()["required"] == ["size", "rim"]
    with pytest.raises(ValidationError, match="rim"):
        WHEEL.model_validate({"size": 1})


def test_nothing_else_is_sent() -> None:
    with pytest.raises(ValidationError, match="colour"):
        WHEEL.model_validate({**ROUND, "colour": "red"})


@pytest.mark.parametrize(
    "held", [{"wheels": [ROUND, {}]}, {"spare": {**ROUND, "colour": "red"}}, {"by_place": {"left": {"size": 1}}}]
)
def test_what_stands_in_a_field_is_held_against_its_own_shape(held: dict[str, Any]) -> None:
    whole = {**BARE, "wheels": [ROUND], "spare": ROUND, "by_place": {"left": ROUND}}
    assert VEHICLE.model_validate(whole).model_dump() == whole
    with pytest.raises(ValidationError, match=f"{next(iter(held))}."):
        VEHICLE.model_validate({**whole, **held})


def test_the_text_is_that_of_the_class_unless_one_is_given() -> None:
    texts = [made.model_json_schema()["description"] for made in (WHEEL, VEHICLE)]
    assert texts == ["Something round.", "A vehicle."]


def test_the_fields_are_in_the_order_of_the_class_but_for_the_first_ones() -> None:
    bus = shape(Bus, "BusItem", parts={Wheel: WHEEL}, first=("id", "line"), without=("notes", "by_place"))
    assert list(bus.model_fields) == ["id", "line", "speed", "wheels", "spare"]


def test_a_shape_upon_another_adds_what_that_one_leaves_out() -> None:
    brief = shape(Vehicle, "Brief", without=("wheels", "spare", "by_place"), speed=Literal["slow", "fast"])
    whole = shape(Vehicle, "Whole", base=brief, parts={Wheel: WHEEL})
    assert issubclass(whole, brief)
    assert list(whole.model_fields) == ["id", "speed", "notes", "wheels", "spare", "by_place"]
    with pytest.raises(ValidationError, match="speed"):
        whole.model_validate({**BARE, "speed": "medium"})


def test_a_field_with_a_default_may_be_left_out_by_the_server_too() -> None:
    made = shape(Wheel, "X", rim=Annotated[str, Field(default="none")])
    assert made.model_validate({"size": 1}).model_dump() == {"size": 1, "rim": "none"}


def test_the_items_of_a_generic_class_are_given() -> None:
    row = shape(Row, "WheelRow", parts={Item: WHEEL})
    with pytest.raises(ValidationError, match="rim"):
        row.model_validate({"items": [{"size": 1}]})


@pytest.mark.parametrize("said", [{"without": ["name"]}, {"first": ["name"]}, {"name_": str}])
def test_nothing_can_be_said_of_a_field_that_is_not_there(said: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"WheelShape has no \{'name"):
        shape(Wheel, "WheelShape", **said)


def test_every_object_in_the_document_but_a_problem_has_the_documented_fields_alone() -> None:
    """Otherwise a dataclass would stand there without a shape of its own."""
    schemas = openapi_document()["components"]["schemas"]
    assert [name for name, schema in schemas.items() if schema["additionalProperties"]] == ["ProblemShape"]
