"""Whether to retry and how long to wait: pure arithmetic, without a clock.

Tried again are refusals that ask for it (429, 503) and requests that got no reply at all; never
anything after the first byte of a reply, because tokens would be generated and shown twice. A read
timeout is not tried again either: the server may still be at work, and a second request would
double its load.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from extracot_client import errors


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks the client reads, replaceable in tests; both in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter that never undercuts ``Retry-After``. Seconds throughout."""

    max_retries: int = 2
    base: float = 0.5
    """The first wait, before jitter; each later one doubles."""
    cap: float = 8.0
    """The longest wait of our own choosing."""
    max_retry_after: float = 60.0
    """A server that asks for more is not waited for: its error is raised at once."""
    random: Callable[[], float] = random.random

    def delay(self, attempt: int, error: errors.ExtracotClientError) -> float | None:
        """Seconds to wait before trying again after attempt ``attempt`` (from 0), or ``None``.

        With ``Retry-After`` a little jitter is added on top, so that clients that were refused
        together do not come back together.
        """
        if attempt >= self.max_retries or not is_retryable(error):
            return None
        retry_after = error.retry_after if isinstance(error, errors.ExtracotAPIError) else None
        if retry_after is None:
            backoff = min(self.cap, self.base * 2.0**attempt)
            return backoff * (0.5 + 0.5 * self.random())
        if retry_after > self.max_retry_after:
            return None
        return retry_after + self.base * self.random()


def is_retryable(error: errors.ExtracotClientError) -> bool:
    """Whether the same request may be sent again after ``error``."""
    if isinstance(error, errors.ConnectionLostError):
        return not error.started
    return isinstance(
        error, errors.RateLimitError | errors.OverloadedError | errors.ServerUnreachableError
    )


def parse_retry_after(value: str | None, now: float) -> float | None:
    """``Retry-After`` in seconds from ``now`` (Unix time): a number or an HTTP date, else ``None``.

    >>> parse_retry_after("1.5", 0.0)
    1.5
    >>> parse_retry_after("Thu, 01 Jan 1970 00:00:30 GMT", 10.0)
    20.0
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # a year can have any number of digits
            return None
        # HTTP dates are GMT by definition; one without a zone is read as such.
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
