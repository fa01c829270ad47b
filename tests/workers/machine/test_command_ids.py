"""The window of command ids: what is remembered, for how long, and that nothing is mixed up."""

from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import Answer
from domain.registry.service import DrainInstance, RegisterInstance
from muster.wire.command import Envelope
from tests.sample import NOON, PLAIN, envelope, register, spec
from workers.machine.command_ids import CommandIds, Piece, content_hash, packed_acceptance

CONTENT = "0123456789abcdef"


def accepted(id_: str, position: int = 7) -> Answer:
    return Answer(id_, "accepted", 3, position, 4, 5)


def window(count: int, ids_max: int) -> CommandIds:
    ids = CommandIds(3, ids_max)
    for number in range(count):
        ids.remember([(accepted(str(number), number), CONTENT)], NOON + timedelta(seconds=number))
    return ids


@pytest.mark.parametrize(
    "answer",
    [
        accepted("1"),
        Answer("1", "unchanged", 3, 0, None, None),
        Answer("1", "refused", 3, 9, error={"name": "StaleIncarnation", "detail": "…", "status": 409}),
        Answer("käse " * 50, "accepted", 3, 2**40, 2**40, 0),
    ],
    ids=lambda answer: answer.status,
)
def test_an_answer_is_remembered_as_it_was(answer):
    ids = CommandIds(3)
    ids.remember([(answer, CONTENT)], NOON)
    assert ids.recall(answer.id) == (answer, CONTENT)


def test_what_was_refused_here_and_accepted_elsewhere_is_accepted():
    ids = CommandIds(3)
    ids.remember([(Answer("1", "refused", 3, 1, error={"name": "ServiceNotFound"}), CONTENT)], NOON)
    ids.remember([(accepted("2"), CONTENT)], NOON)
    ids.remember([(accepted("1"), CONTENT)], NOON)
    assert ids.recall("1") == (accepted("1"), CONTENT)
    assert [id_ for id_, _ in ids.recorded()] == ["2", "1"]


def test_an_unknown_id_is_unknown():
    assert CommandIds(3).recall("1") is None


def test_at_least_the_newest_are_remembered():
    ids = window(1_000, 100)
    assert all(ids.recall(str(number)) for number in range(900, 1_000))


def test_the_oldest_are_forgotten_so_that_memory_is_bounded():
    ids = window(1_000, 100)
    assert ids.recall("0") is None
    assert 100 <= len(ids) <= 150


def test_since_says_from_when_on_every_id_is_remembered():
    ids = window(1_000, 100)
    oldest = min(number for number in range(1_000) if ids.recall(str(number)))
    assert ids.since() == NOON + timedelta(seconds=oldest)


def test_an_empty_window_has_no_beginning():
    assert CommandIds(3).since() is None


def test_the_error_of_a_forgotten_refusal_is_forgotten_too():
    ids = CommandIds(3, 2)
    ids.remember([(Answer("bad", "refused", 3, 1, error={"name": "TooLarge"}), CONTENT)], NOON)
    for number in range(10):
        ids.remember([(accepted(str(number)), CONTENT)], NOON)
    ids.remember([(accepted("bad"), CONTENT)], NOON)
    assert ids.recall("bad") == (accepted("bad"), CONTENT)


def test_a_snapshot_keeps_the_accepted_ones_oldest_first():
    ids = CommandIds(3, 4)
    for number in range(4):
        ids.remember([(accepted(str(number)), CONTENT)], NOON)
        ids.remember([(Answer(f"u{number}", "unchanged", 3, 1), CONTENT)], NOON)
    kept = [id_ for id_, _ in ids.recorded()]
    assert kept == sorted(kept)
    assert all(ids.recall(id_)[0].status == "accepted" for id_ in kept)


def test_whatever_is_asked_the_hash_tells_it_apart():
    asked = [
        register(),
        register(port=81),
        register("b"),
        register(service="users"),
        register(metadata={"k": "v"}),
        envelope("1", RegisterInstance(instance="a", spec=PLAIN), version=0),
        envelope("1", DrainInstance(instance="a")),
        envelope("1", DrainInstance(instance="b")),
    ]
    assert len({content_hash(told) for told in asked}) == len(asked)


def test_who_asks_and_why_does_not_matter():
    command = RegisterInstance(instance="a", spec=spec())
    assert content_hash(Envelope("1", "service/x", command, "ann", "why")) == content_hash(
        Envelope("2", "service/x", command, "bob", None, None, "trace")
    )


@given(st.lists(st.integers(0, 30).map(str), max_size=200), st.integers(1, 20))
def test_the_newest_ids_are_always_in_the_window(ids, ids_max):
    remembered, order = CommandIds(0, ids_max), []
    for position, id_ in enumerate(ids):
        if remembered.recall(id_) is None:
            remembered.remember([(Answer(id_, "accepted", 0, position), CONTENT)], NOON)
            order.append((id_, position))
    for id_, position in order[-ids_max:]:
        assert remembered.recall(id_) == (Answer(id_, "accepted", 0, position), CONTENT)


@pytest.mark.parametrize("here", [{"error": {"name": "ServiceNotFound"}, "status": "refused"}, {"status": "unchanged"}])
def test_what_a_batch_of_the_log_accepted_is_remembered_like_any_answer(here):
    ids = CommandIds(3)
    ids.remember([(Answer("1", partition=3, position=1, **here), CONTENT)], NOON)
    ids.accepted(dict.fromkeys(("2", "1"), packed_acceptance(CONTENT, 7, 4, 5)), NOON)
    assert [ids.recall(id_) for id_ in ("1", "2")] == [(accepted("1"), CONTENT), (accepted("2"), CONTENT)]
    assert [id_ for id_, _ in ids.recorded()] == ["2", "1"]


def test_batches_of_the_log_push_the_oldest_ids_out():
    ids = CommandIds(3, 100)
    for first in range(0, 1_000, 10):
        numbers = range(first, first + 10)
        told = {str(number): packed_acceptance(CONTENT, number, 0, None) for number in numbers}
        ids.accepted(told, NOON + timedelta(seconds=first))
    assert all(ids.recall(str(number)) for number in range(900, 1_000))
    assert ids.recall("0") is None
    assert ids.since() == NOON + timedelta(seconds=min(n for n in range(1_000) if ids.recall(str(n))))


def pieces(ids: CommandIds, size: int) -> list[Piece]:
    rows = list(ids.recorded())
    return [partial(list, rows[first : first + size]) for first in range(0, len(rows), size)]


def restored(before: CommandIds, size: int = 7, ids_max: int = 100) -> CommandIds:
    ids = CommandIds(3, ids_max)
    ids.restore(pieces(before, size), NOON)
    return ids


def test_what_a_snapshot_kept_is_known_to_whoever_asks() -> None:
    before = window(120, 100)
    assert all(restored(before).recall(id_) == before.recall(id_) for id_, _ in before.recorded())
    assert len(restored(before)) == len(before)
    assert list(restored(before).recorded()) == list(before.recorded())


def test_it_is_taken_in_piece_by_piece_and_once() -> None:
    asked = list[int]()

    def piece(number: int) -> list[tuple[str, str]]:
        asked.append(number)
        return [(str(number), packed_acceptance(CONTENT, number, 0, None).hex())]

    ids = CommandIds(3, 100)
    ids.restore([partial(piece, number) for number in range(3)], NOON)
    assert asked == []
    assert [len(asked) for _ in ids.settle()] == [1, 2, 3]
    assert len(ids) == 3
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("settled", [False, True])
def test_what_comes_behind_a_snapshot_is_newer_than_all_of_it(settled: bool) -> None:
    ids = restored(window(150, 100))
    if settled:
        list(ids.settle())
    ids.accepted({"149": packed_acceptance(CONTENT, 500, 0, None)}, NOON + timedelta(hours=1))
    assert ids.since() == NOON
    found = ids.recall("149")
    assert found is not None
    assert found[0].position == 500
    for number in range(1_000, 1_100):
        ids.remember([(accepted(str(number), number), CONTENT)], NOON + timedelta(hours=2))
    assert all(ids.recall(str(number)) for number in range(1_000, 1_100))
    assert len(ids) <= 200


def test_few_that_come_behind_a_snapshot_push_nothing_out_of_the_window() -> None:
    before = window(120, 100)
    ids = restored(before)
    ids.accepted({"new": packed_acceptance(CONTENT, 500, 0, None)}, NOON + timedelta(hours=1))
    assert all(ids.recall(str(number)) for number in range(21, 120))
    for number in range(1_000, 1_040):
        ids.remember([(accepted(str(number), number), CONTENT)], NOON + timedelta(hours=2))
    assert all(ids.recall(str(number)) for number in range(70, 120))


def test_a_snapshot_without_ids_says_since_when_there_were_none() -> None:
    ids = CommandIds(3)
    ids.restore([], NOON)
    assert ids.since() == NOON
