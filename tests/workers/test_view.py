"""The views alone: whom they tell what, and when."""

from domain.instance import evolve
from infra.log import START, Cursor
from tests.sample import recorded, registered
from workers.view import Change, Views


def test_listeners_may_miss_what_nobody_can_have_read_before() -> None:
    views, told = Views([0]), list[int]()

    def listen(partition: int, cursor: Cursor, changes: list[Change]) -> None:
        told.extend(change.recorded.position for change in changes)

    views.listen(listen)
    for number in range(4):
        event = recorded(registered(f"i{number}"), number, number)
        folded = [(event, evolve(None, event))]
        views.apply(0, folded, Cursor(number, number, START.head, 1, "w"), tell=number > 1)
    assert told == [2, 3]
    assert views.instances["orders"].keys() == {"i0", "i1", "i2", "i3"}
    assert views.services["orders"].instances == 4
