"""How flags are read: one that has a single value is there once and holds something.

argparse keeps the last of several values, and an empty one is soon taken for none. Knows no stage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Once(argparse.Action):
    """Stores a value; a second one, or an empty text, is the parser's error. For flags whose
    default is ``None``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | Any | None,
        option_string: str | None = None,
    ) -> None:
        if isinstance(values, str) and not values.strip():
            parser.error(f"{option_string} wants a value, not an empty text")
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is there twice")
        setattr(namespace, self.dest, values)


def file(text: str) -> Path:
    """A flag's file. Raises ``argparse.ArgumentTypeError``."""
    if not text.strip():
        raise argparse.ArgumentTypeError("want a file, not an empty text")
    return Path(text)
