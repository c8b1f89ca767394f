"""What training stages raise on purpose. The command line prints each as one line."""

from __future__ import annotations

from pathlib import Path

from extracot.errors import ExtracotError


class TrainingError(ExtracotError):
    """Root of the package's own errors."""


class ConfigError(TrainingError):
    """A configuration is unusable; ``key`` is the dotted setting at fault, if known."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class StageError(TrainingError):
    """A stage can't start or go on (folder in use, other settings, missing input, full disk)."""


class GenerationError(StageError):
    """Text or rollouts can't be had (a dead endpoint, a wrong key, no such model or level, no
    vLLM): going on is pointless."""


class RowError(TrainingError):
    """A row can't be read; the message starts with ``file:line`` and names the field."""

    def __init__(self, path: Path, line: int, message: str, *, field: str | None = None) -> None:
        where = f"{path}:{line}: "
        super().__init__(where + (f"field {field!r}: " if field else "") + message)
        self.path = path
        self.line = line
        self.field = field
