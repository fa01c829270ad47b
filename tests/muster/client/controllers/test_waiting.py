"""What is said of waiting for a controller: soon, and once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest

from muster.client.controllers.waiting import ControllerWait
from muster.wire.error import NotReady, Transient, Unreachable

LOG = logging.getLogger("tests.waiting")
WAITS = "n1 cannot join yet: it waits for an answer from the controller at http://a:1 or http://b:1"
ANSWERS = "the controller at http://a:1 answers"


class Told(logging.Handler):
    """What was told so far."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.rung = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        self.lines.append(record.getMessage())
        self.rung.set()


@pytest.fixture
def told() -> Iterator[Told]:
    found = Told()
    LOG.setLevel(logging.INFO)
    LOG.addHandler(found)
    yield found
    LOG.removeHandler(found)


async def asked(wait: ControllerWait, answer: Callable[[], Awaitable[object]]) -> None:
    with wait.asking():
        await answer()


def failing(error: Transient) -> Callable[[], Awaitable[None]]:
    async def answer() -> None:
        raise error

    return answer


def wait() -> ControllerWait:
    return ControllerWait(LOG, "n1 cannot join yet", lambda: ("http://a:1", "http://b:1"))


async def test_a_wait_is_told_while_it_lasts_and_its_end(told: Told) -> None:
    await asyncio.wait_for(asked(wait(), told.rung.wait), 30)
    assert told.lines == [WAITS, ANSWERS]


async def test_of_an_answer_that_comes_soon_nothing_is_told(told: Told) -> None:
    await asked(wait(), lambda: asyncio.sleep(0))
    assert told.lines == []


async def test_each_kind_of_trouble_is_told_once_until_there_is_an_answer(told: Told) -> None:
    waiting = wait()
    for error in (Unreachable("a is away"), Unreachable("b is away"), NotReady("no writer"), Unreachable("a is away")):
        with pytest.raises(Transient):
            await asked(waiting, failing(error))
    away, unready = "n1 cannot join yet: a is away", "n1 cannot join yet: no writer"
    assert told.lines == [away, unready]
    await asked(waiting, lambda: asyncio.sleep(0))
    with pytest.raises(Transient):
        await asked(waiting, failing(Unreachable("a is away")))
    assert told.lines == [away, unready, ANSWERS, away]
