"""The service's log: JSON lines on stderr."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

MAX_ERROR = 300
"""Characters of an exception's message, which may quote a request."""

_log = logging.getLogger("fbt")


class ThrottledLog:
    """Logs an event at most once a second, with its number since the last line."""

    def __init__(self, event: str, level: int) -> None:
        self._event, self._level = event, level
        self._next = 0.0
        self._n = 0

    def log(self, **fields: Any) -> None:
        self._n += 1
        if (now := time.monotonic()) >= self._next:
            _log.log(self._level, self._event, extra={**fields, "requests": self._n})
            self._next, self._n = now + 1, 0


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ts, level, event, pid and the record's extra fields."""

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "ts": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": record.process,
        }
        line |= {name: value for name, value in vars(record).items() if name not in self._STANDARD}
        if record.exc_info and record.exc_info[0]:
            line |= describe_exception(*record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def describe_exception(kind: Any, error: Any, trace: Any) -> Mapping[str, Any]:
    frames = traceback.extract_tb(trace)
    return {
        "error": f"{kind.__name__}: {error}"[:MAX_ERROR],
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def configure_logging() -> None:
    """Let the logger `fbt` write JSON lines. Not at import: tests and tools log, too."""
    if not _log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
