"""How both programs log: standard logging to stderr, one line an event, as text or as JSON."""

import json
import logging
import sys
from typing import Any

from tokenyield_settings.visible import visible


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _TextFormatter(logging.Formatter):
    """No text in a record begins a line of its own, or acts on a terminal; tracebacks are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {visible(line)}" for line in super().formatException(ei).split("\n"))


def neutralize_warnings() -> None:
    """What a command logs without having set up logging goes to stderr too."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_TextFormatter("%(message)s"))


def set_up_logging(log_format: str, level: str) -> None:
    """`log_format`: text or json; `level`: the least that is logged."""
    handler = logging.StreamHandler(sys.stderr)
    plain = _TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    handler.setFormatter(_JsonFormatter() if log_format == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
