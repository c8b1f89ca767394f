"""Comparing sides that take turns in one process: costs per token, and their ratio round by round.

A busy machine slows both sides of a short round alike, so ratios within a round say what absolute
times do not. Knows nothing of what the sides do.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Semaphore, Thread
from typing import Literal

Clock = Literal["wall", "cpu"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one part of a run: tokens done, seconds on the wall, CPU seconds of all threads."""

    tokens: int
    wall: float
    cpu: float

    def per_token(self, clock: Clock) -> float:
        """Seconds a token."""
        return (self.wall if clock == "wall" else self.cpu) / self.tokens


Parts = Mapping[str, Cost]
# A side does its steps and calls this at the end of each with what it cost; the call returns when
# it is the side's turn again.
Report = Callable[[Parts], None]
Side = Callable[[Report], None]


class _Runner:
    """A side in a thread of its own, which runs only while somebody waits for its next step."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._go, self._stopped = Semaphore(0), Semaphore(0)
        self._parts: Parts | None = None
        self._error: BaseException | None = None
        Thread(target=self._run, daemon=True).start()

    def step(self) -> Parts | None:
        """Cost of the next step; ``None`` when there was none. Raises what the side raises."""
        self._parts = None
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error
        return self._parts

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._side(self._report)
        except BaseException as error:  # raised where somebody waits
            self._error = error
        self._stopped.release()

    def _report(self, parts: Parts) -> None:
        self._parts = parts
        self._stopped.release()
        self._go.acquire()


def take_turns(sides: Mapping[str, Side], rounds: int, *, warm_up: int) -> dict[str, list[Parts]]:
    """The parts of every side's every round, after ``warm_up`` rounds that don't count.

    Each round asks every side for one step; who begins changes from round to round. Sides have
    ``warm_up + rounds`` steps, after which they may still tidy up. Raises what a side raises, and
    ``ValueError`` for one with another number of steps.
    """
    names = list(sides)
    runners = {name: _Runner(side) for name, side in sides.items()}
    found: dict[str, list[Parts]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            parts = runners[name].step()
            if parts is None:
                raise ValueError(f"{name!r} ended before step {number + 1}")
            if number >= warm_up:
                found[name].append(parts)
    for name, runner in runners.items():
        if runner.step() is not None:
            raise ValueError(f"{name!r} has more than {warm_up + rounds} steps")
    return found


def ratios(
    ours: Sequence[Parts], theirs: Sequence[Parts], part: str, clock: Clock = "wall"
) -> list[float]:
    """Our time a token over theirs, one per round: 1.05 is five per cent slower.

    Raises ``ValueError`` where the two did not do as many tokens.

    >>> one, two = {"step": Cost(100, 2.1, 2.0)}, {"step": Cost(100, 2.0, 2.0)}
    >>> ratios([one], [two], "step"), ratios([one], [two], "step", "cpu")
    ([1.05], [1.0])
    """
    pairs = [(mine[part], other[part]) for mine, other in zip(ours, theirs, strict=True)]
    if any(mine.tokens != other.tokens for mine, other in pairs):
        raise ValueError(f"{part}: not the same work in every round")
    return [mine.per_token(clock) / other.per_token(clock) for mine, other in pairs]


def tokens_per_second(rounds: Sequence[Parts], part: str) -> float:
    """The median over rounds."""
    return statistics.median(1 / parts[part].per_token("wall") for parts in rounds)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median, and the range in brackets.

    >>> spread([1.0, 1.02, 1.1])
    '1.020 (1.000 to 1.100)'
    """
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
