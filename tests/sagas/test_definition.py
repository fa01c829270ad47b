"""Definitions that would break a promise of the engine are refused when they are written."""

import pytest

from domain.registry.service import SetMaintenance
from muster.wire.stream import SAGA_ROOTS, SERVICE
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Apply, Definition, Delegate, Step, Unsound, Wait, newest
from tests.sagas.rolling_restart import LATER, V1, RestartInstance


def apply(_):
    return (Apply(SetMaintenance(instance="a")),)


def task(_):
    return (Delegate("host", "work"),)


DO = Step("do", task, undo=(Step("take_back", task),))
LOOK = Step("look", task, harmless="it only looks")
PIVOT = Step("pivot", apply, pivot=True, pausable=False)
REST = Step("rest", task)


def test_a_sound_definition_names_its_parts():
    definition = Definition("d", 1, (LOOK, DO, PIVOT, REST))
    assert [step.name for step in definition.compensations] == ["take_back"]
    assert (definition.pivot, definition.index("do"), definition.after("pivot")) == (2, 1, "rest")
    assert definition.after("rest") is None
    assert definition.step("take_back").name == "take_back"


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((LOOK, REST), "exactly one pivot, has 0"),
        ((), "exactly one pivot, has 0"),
        ((PIVOT, Step("pivot_2", apply, pivot=True)), "exactly one pivot, has 2"),
        ((LOOK, LOOK, PIVOT), "the same name"),
        ((DO, Step("take_back", task, harmless="why"), PIVOT), "the same name"),
        ((Step("do", task), PIVOT), "do stands before the pivot: it needs an undo"),
        ((Step("do", task, undo=DO.undo, harmless="why"), PIVOT), "do stands before the pivot: it needs an undo"),
        ((PIVOT, DO), "do cannot be undone"),
        ((Step("pivot", apply, pivot=True, undo=DO.undo),), "pivot cannot be undone"),
        ((Step("do", task, undo=(Step("back", task, undo=DO.undo),)), PIVOT), "undoes cannot be undone"),
        ((LOOK, Step("pivot", apply, pivot=True, skippable=True)), "the pivot cannot be left out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unsound_one_is_refused(steps, why):
    with pytest.raises(Unsound, match=why):
        Definition("d", 1, steps)


@pytest.mark.parametrize("window", ["pivot", "rest", "nonsense", "take_back"])
def test_a_window_begins_before_the_pivot(window):
    with pytest.raises(Unsound, match="window must begin"):
        Definition("d", 1, (DO, PIVOT, REST), window=window)


@pytest.mark.parametrize(
    "how", [{"root": SERVICE}, {"number": lambda root: root.version}], ids=lambda how: next(iter(how))
)
def test_one_that_a_command_starts_needs_a_root_and_a_number(how):
    with pytest.raises(Unsound, match="needs a kind of root"):
        Definition("d", 1, (LOOK, PIVOT), start=RestartInstance, **how)


def test_a_saga_of_the_catalogue_has_a_name_that_streams_know():
    for definition in DEFINITIONS.values():
        assert SAGA_ROOTS[definition.saga] == definition.root


def test_a_window_cannot_be_paused():
    with pytest.raises(Unsound, match="a pause within the window"):
        Definition("d", 1, (LOOK, DO, PIVOT), window="do")


def test_a_window_ends_with_the_pivot():
    quick = Step("quick", task, harmless="why", pausable=False)
    definition = Definition("d", 1, (LOOK, quick, PIVOT, REST), window="quick")
    inside = [name for name in ("look", "quick", "pivot", "rest", "nonsense") if definition.in_window(name)]
    assert inside == ["quick", "pivot"]
    assert not Definition("d", 1, (LOOK, PIVOT)).in_window("look")


@pytest.mark.parametrize(
    ("up_to", "tried", "undo"),
    [
        ("one", False, ()),
        ("one", True, ("undo_one",)),
        ("two", False, ("undo_one",)),
        ("two", True, ("undo_two", "undo_two_more", "undo_one")),
        ("pivot", False, ("undo_two", "undo_two_more", "undo_one")),
    ],
)
def test_what_was_done_is_undone_from_the_end(up_to, tried, undo):
    one = Step("one", task, undo=(Step("undo_one", task),))
    two = Step("two", task, undo=(Step("undo_two", task), Step("undo_two_more", task)))
    definition = Definition("d", 1, (one, LOOK, two, PIVOT))
    assert definition.undoing(up_to, tried=tried) == undo


def test_new_sagas_get_the_newest_version():
    assert newest(LATER, V1.name).version == 2


def test_a_step_waits_or_works_as_its_function_says():
    assert V1.step("observe").act(None) == (Wait("whether it stays up", seconds=60.0),)


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda definition: definition.name)
def test_every_definition_ends_by_itself_or_is_blocked(definition):
    """Behind the pivot, and on the way back, every step has an end to its attempts, or can wait for ever by intent."""
    for step in (*definition.steps, *definition.compensations):
        assert step.attempts_max >= 1
        assert step.backoff_seconds <= step.backoff_seconds_max
        assert step.timeout_seconds is None or step.timeout_seconds > 0
