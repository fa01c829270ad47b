"""Structured logs on standard error: one line per event, readable or JSON. `log.info("what happened", extra={"key": value})`."""

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


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
            return orjson.dumps(line | facts | ({"error": error} if error else {}), default=str).decode()
        shown = " ".join(f"{name}={value}" for name, value in facts.items())
        return f"{at} {record.levelname.lower():7} {record.getMessage()} {shown}".rstrip() + (
            f"\n{error}" if error else ""
        )


def configure(*, as_json: bool, level: int = logging.INFO) -> None:
    """Send all logs of the process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Structured(as_json=as_json))
    # `force`, because a handler that a library has put there at its import would write each line twice.
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These tell of every reconnect at INFO; what matters of it is in our own states.
    for name in ("aiokafka", "uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
