"""The exception tree: everything this distribution raises on purpose descends from one root.

Knows nothing of HTTP: each border maps these to its own replies, in one place.
"""

from __future__ import annotations

from pathlib import Path


class ExtracotError(Exception):
    """Root of every error raised on purpose; its text is one line, fit to be shown."""


class CardError(ExtracotError):
    """A budget card is missing, malformed, or does not fit the tokenizer beside it.

    ``field`` is the path of the key at fault (``levels[0].token_id``), ``path`` the card's file;
    both are ``None`` where they do not apply, and both stand in the message where they do.
    """

    def __init__(
        self, message: str, *, field: str | None = None, path: str | Path | None = None
    ) -> None:
        where = [str(part) for part in (path, field) if part is not None]
        super().__init__(": ".join([*where, message]))
        self.field = field
        self.path = path


class PromptError(ExtracotError):
    """A conversation cannot be rendered; ``field`` names its part (``messages[2].content``)."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message if field is None else f"{field}: {message}")
        self.field = field


class ControlTokenError(ExtracotError):
    """A control token or think tag is malformed, or is not what the tokenizer makes of it."""
