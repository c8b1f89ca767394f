"""The server's log on standard error: for people, or one JSON object a line for machines.

Knows nothing of requests: callers put their ``fields`` beside the message. vLLM's own processes
write their own lines, as its ``VLLM_LOGGING_*`` variables say.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

ANNOUNCEMENTS = "extracot.serve"
"""The logger of what is told to the person who started the server, whatever the level."""


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "logger", "message", …fields, "exception"}``, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        moment = datetime.fromtimestamp(record.created, UTC)
        found: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if fields is not None:  # they say all that the line for people does
            found = {**found, "message": "request", **fields}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False, default=str)


def configure_logging(
    level: Literal["debug", "info", "warning", "error"], form: Literal["text", "json"]
) -> None:
    """Set up the root logger of this process, once, before anything is logged."""
    handler = logging.StreamHandler(sys.stderr)
    announcing = logging.getLogger(ANNOUNCEMENTS)
    announcing.setLevel(logging.INFO)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        plain = logging.StreamHandler(sys.stderr)
        plain.setFormatter(logging.Formatter("extracot-serve: %(message)s"))
        announcing.handlers = [plain]
        announcing.propagate = False
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level != "debug":
        # vLLM's own level (VLLM_LOGGING_LEVEL) holds from its import on, and it speaks before that.
        for name in ("uvicorn", "httpx", "vllm"):
            logging.getLogger(name).setLevel(logging.WARNING)
