"""Lines of the log, whoever has written what stands in them."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from infra.diagnostics import formatter

FORGED = "disk\n2026-11-28T22:00:00.000+00:00 error   n7 lost users/3 \x1b[2J \x9b31m \u202e evil"


@pytest.fixture(params=[False, True], ids=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(as_json=request.param))
    found = logging.getLogger("tests.diagnostics")
    found.addHandler(handler)
    found.propagate = False
    yield found, written
    found.removeHandler(handler)
    found.propagate = True


def test_what_others_wrote_neither_begins_a_line_nor_speaks_to_a_terminal(log: tuple[logging.Logger, io.StringIO]):
    logger, written = log
    logger.error("a task failed: %s", FORGED, extra={"reason": FORGED, "count": 3})
    assert written.getvalue().count("\n") == 1
    assert written.getvalue()[:-1].isprintable()
    assert "n7 lost users/3" in written.getvalue()


def test_a_traceback_that_quotes_a_line_of_a_log_is_none(log: tuple[logging.Logger, io.StringIO]):
    logger, written = log
    try:
        raise OSError(FORGED)
    except OSError:
        logger.exception("it failed")
    first, *rest = written.getvalue().splitlines()
    assert "it failed" in first
    assert all(line.startswith("    | ") for line in rest)
    assert all(line.isprintable() for line in (first, *rest))


def test_a_field_cannot_pass_for_two():
    record = logging.makeLogRecord({"msg": "lost", "levelname": "INFO", "reason": 'x" node=n7', "node": "n1"})
    assert formatter(as_json=False).format(record).endswith(r'lost reason="x\" node=n7" node=n1')
    assert json.loads(formatter(as_json=True).format(record))["reason"] == 'x" node=n7'
