"""Of each kind of warning one line a second, and none of them uncounted."""

import logging
from io import StringIO

from infra.diagnostics import configure
from infra.flood import FloodFilter, kinds_max


class Log:
    """A logger behind the filter, on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.written = 0.0, StringIO()
        handler = logging.StreamHandler(self.written)
        handler.addFilter(FloodFilter(lambda: self.now))
        self.logger = logging.Logger("aiokafka")
        self.logger.addHandler(handler)

    def lines(self) -> int:
        return len(self.written.getvalue().splitlines())


def test_of_many_lines_of_a_kind_one_a_second_is_written_with_the_number_of_the_others(caplog) -> None:
    log = Log()
    counted: list[int] = []
    log.logger.addFilter(lambda record: True)
    for _ in range(5):
        for number in range(100):
            log.logger.error("Unable connect to node with id %s: offset %d", number, number)
        log.now += 1.0
    assert log.lines() == 5
    record = logging.LogRecord(
        "aiokafka", logging.ERROR, "", 0, "Unable connect to node with id %s: offset %d", (1, 2), None
    )
    [handler] = log.logger.handlers
    assert handler.filter(record)
    counted.append(record.more_like_it)  # type: ignore[attr-defined]
    assert counted == [99]


def test_other_kinds_and_what_is_no_warning_are_written_all_the_same() -> None:
    log = Log()
    for number in range(10):
        log.logger.info("owners")
        log.logger.warning(f"broker {number} is away")
    log.logger.warning("the log is damaged")
    log.logger.error("the log is damaged")
    assert log.lines() == 10 + 1 + 2


def test_kinds_without_end_take_no_memory_without_end() -> None:
    log = Log()
    [handler] = log.logger.handlers
    [flood] = handler.filters
    for number in range(2 * kinds_max):
        log.logger.warning("a" * (number + 1))
    assert len(flood._kinds) == kinds_max  # type: ignore[union-attr]


def test_a_process_writes_through_it() -> None:
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        configure(as_json=True)
        assert any(isinstance(one, FloodFilter) for one in logging.root.handlers[0].filters)
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
