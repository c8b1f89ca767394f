"""What a stage says while it works: a bar on a terminal, elsewhere a plain line now and then with
rate and time left (a log stays readable and shows life), and warnings, a line each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self

# Seconds to the first line, and between lines: work of a moment says nothing.
FIRST_S, EVERY_S = 10.0, 30.0


def progress(total: int | None, what: str, *, done: int = 0) -> Any:
    """A bar over ``total`` steps of which ``done`` were there already (a resumed run), or the lines
    of a :class:`PlainProgress` where nobody watches.

    To be used in a ``with`` statement; it has tqdm's ``update`` and ``set_postfix``.
    """
    if not sys.stderr.isatty():
        return PlainProgress(total, what, done=done)
    tqdm = import_module("tqdm").tqdm
    return tqdm(total=total, initial=done, desc=what, dynamic_ncols=True)


@dataclass(slots=True)
class PlainProgress:
    """Says how far it is, at most every :data:`EVERY_S` seconds, and at the end if it said so
    before. The rate is of this run alone."""

    total: int | None
    what: str
    done: int = 0
    say: Callable[[str], None] = field(
        default=lambda line: print(line, file=sys.stderr, flush=True)
    )
    clock: Callable[[], float] = time.monotonic
    _begun: float = field(init=False)
    _start: int = field(init=False)
    _next: float = field(init=False)
    _more: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._begun, self._start = self.clock(), self.done
        self._next = self._begun + FIRST_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._next > self._begun + FIRST_S:
            self.say(self.line())

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        if self.clock() >= self._next:
            self._next = self.clock() + EVERY_S
            self.say(self.line())

    def set_postfix(self, **values: object) -> None:
        """What the lines say besides."""
        self._more = "".join(f", {name} {value}" for name, value in values.items())

    def line(self) -> str:
        """``teach: 40 of 200 (20 %), 4.0 a second, 40 s left``."""
        seconds, made = self.clock() - self._begun, self.done - self._start
        told = f"{self.what}: {self.done}"
        if self.total:
            told += f" of {self.total} ({100 * self.done // self.total} %)"
        told += self._more
        if seconds <= 0 or made <= 0:
            return told
        rate = made / seconds
        told += f", {rate:.1f} a second" if rate >= 1 else f", {1 / rate:.1f} s each"
        if self.total and self.total > self.done:
            told += f", {duration((self.total - self.done) / rate)} left"
        return told


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.2 h``.

    >>> duration(40), duration(750), duration(11_520)
    ('40 s', '12 min', '3.2 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def warn(message: str) -> None:
    """One line on standard error, for what is allowed and hardly meant."""
    print(f"extracot-train: warning: {message}", file=sys.stderr)


def warn_of_copies(temperature: float | None, number: int, setting: str) -> None:
    """Warn where greedy decoding is asked for several replies to the same prompt."""
    if temperature == 0 and number > 1:
        warn(
            f"{setting} is {number} at temperature 0: all {number} replies to a prompt are the "
            f"same one; set {setting} to 1, or a temperature above 0"
        )
