"""Structured logs on standard error: one line per event, readable or JSON. `log.info("what happened", extra={"key": value})`.

What others wrote (an error's text, a name, an address) stands in them as text: it cannot end its line, begin another one, or
say anything to a terminal. A field whose text has spaces stands in quotes, so that it cannot pass for two.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

from infra.flood import FloodFilter
from muster.wire import printable, printable_json

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_PLAIN: Final = re.compile(r'[^\s"=]*')
_WITHIN: Final = "    | "
"""How the lines of a traceback begin, which may quote anything: no line of a log begins so."""


class _Structured(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        error = self.formatException(record.exc_info) if record.exc_info else None
        if self._as_json:
            line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
            found = orjson.dumps(line | facts | ({"error": error} if error else {}), default=str)
            return printable_json(found.decode())
        shown = " ".join(f"{name}={_shown(value)}" for name, value in facts.items())
        text = printable(f"{at} {record.levelname.lower():7} {record.getMessage()} {shown}".rstrip())
        return text if error is None else "\n".join((text, *(_WITHIN + printable(part) for part in error.splitlines())))


def formatter(*, as_json: bool) -> logging.Formatter:
    """What makes a line of a log record: JSON, or text with fields as `name=value`."""
    return _Structured(as_json=as_json)


def _shown(value: object) -> str:
    """A field's value; text that could pass for more than one field stands in quotes."""
    if not isinstance(value, str) or _PLAIN.fullmatch(value):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def configure(*, as_json: bool, level: int = logging.INFO) -> None:
    """Send all logs of the process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(as_json=as_json))
    handler.addFilter(FloodFilter())
    # `force`, because a handler that a library has put there at its import would write each line twice.
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These tell of every reconnect at INFO; what matters of it is in our own states.
    for name in ("aiokafka", "uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
