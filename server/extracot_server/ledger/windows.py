"""The calendar of usage and quotas: hours, minutes, days and months, all of them UTC. Pure.

A request belongs to the window in which it was admitted, also when it ends in the next. A clock
that jumps over midnight begins the next day's window; one that is set back returns to the window it
left, whose counts are still there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from extracot_server.admission.quotas import Period

HOUR, DAY = 3600, 86400
KEPT = {
    "usage": 400 * DAY,
    Period.MINUTE.value: HOUR,
    Period.DAY.value: 8 * DAY,
    Period.MONTH.value: 100 * DAY,
}
"""How long the counters of a window are kept after its start, in seconds; others stay."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, in Unix seconds; ``end`` is the next one's start."""

    start: int
    end: int


def window(period: Period, at: float) -> Window:
    """The minute, UTC day or UTC month that holds a moment.

    >>> february = window(Period.MONTH, 1_709_208_000)  # noon of 29 February 2024
    >>> (february.end - february.start) // 86400
    29
    """
    return _window(period, int(at // 60) * 60)


@lru_cache(maxsize=64)
def _window(period: Period, minute: int) -> Window:
    """The same for the start of a minute: all requests of that minute ask for it."""
    moment = datetime.fromtimestamp(minute, UTC)
    match period:
        case Period.MINUTE:
            start = moment.replace(second=0, microsecond=0)
            end = start + timedelta(minutes=1)
        case Period.DAY:
            start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            end = start + timedelta(days=1)
        case Period.MONTH:
            start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            end = (start + timedelta(days=32)).replace(day=1)
    return Window(int(start.timestamp()), int(end.timestamp()))


def hour_of(at: float) -> int:
    """The start of a moment's hour."""
    return int(at // HOUR) * HOUR


def bucket(kind: str, start: int) -> str:
    """The name of a window's counters in a store."""
    return f"{kind}:{start}"


def expires(name: str) -> int:
    """When the counters of a bucket may go: Unix seconds; 0: never.

    >>> expires("minute:60"), expires("holdout")
    (3660, 0)
    """
    kind, _, start = name.partition(":")
    return int(start) + KEPT[kind] if kind in KEPT else 0


def span(seconds: float) -> str:
    """A duration as rate limit headers have it.

    >>> span(0.2), span(90), span(93784)
    ('1s', '1m30s', '26h3m4s')
    """
    whole = max(1, round(seconds))
    hours, minutes, rest = whole // HOUR, whole % HOUR // 60, whole % 60
    parts = [f"{hours}h"] if hours else []
    parts += [f"{minutes}m"] if hours or minutes else []
    return "".join([*parts, f"{rest}s"])


def iso(at: float) -> str:
    """A moment as text.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
