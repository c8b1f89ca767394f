"""A canary's comparison: two sides of one model's traffic, as counts and differences of means.

Requests of one conversation are alike, so what is independent of each other is not a request but
whatever sticks to one side. These units are put into :data:`BUCKETS` buckets by a hash, and the
spread between buckets gives the intervals: bounded memory, and sums that add up over processes.
Pure; knows no requests.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from extracot.student_t import student_quantile
from extracot_server.budget.holdout import CONFIDENCE, MIN_FOR_INTERVAL

BUCKETS = 64
MIN_BUCKETS = 8
"""Buckets that are in use on each side before an interval is given; 10 units fill about that."""
_WHOLE = 2**64


class Side(StrEnum):
    """Where a request goes."""

    STABLE = "stable"
    CANARY = "canary"


MEANS = ("reasoning_tokens", "total_tokens", "seconds")
"""Of a reply that a client got whole; ``total`` is reasoning and answer together."""
SHARES = ("cut", "cap_hit", "escaped", "no_answer")
"""Of those replies: which ended at ``max_tokens``, which had their reasoning cut off, whose answer
goes on reasoning, which have none."""
FAILURES = ("error", "aborted")
"""Of all requests: failed in the engine, left by their client."""
_OF = {**dict.fromkeys((*MEANS, *SHARES), "replies"), **dict.fromkeys(FAILURES, "requests")}


def draw(share: float, *seed: str) -> tuple[Side, int]:
    """The side and the bucket of what sticks together; the same in every process.

    A larger share keeps all who were the canary's under a smaller one.

    >>> draw(1.0, "canary", "key", "hello")[0]
    <Side.CANARY: 'canary'>
    """
    digest = hashlib.sha256("\0".join(seed).encode(errors="replace")).digest()
    side = int.from_bytes(digest[:8], "big") < share * _WHOLE
    return Side.CANARY if side else Side.STABLE, int.from_bytes(digest[8:16], "big") % BUCKETS


class Difference(NamedTuple):
    """canary - stable, and its interval at the holdout's confidence."""

    mean: float
    low: float
    high: float


class _Arm(NamedTuple):
    mean: float
    variance: float
    freedom: float
    """Of the mean."""


@dataclass(slots=True)
class Comparison:
    """Sums by side, bucket and kind."""

    sums: dict[tuple[Side, int, str], float] = field(default_factory=dict)

    def add(self, side: Side, bucket: int, amounts: Mapping[str, float]) -> dict[str, float]:
        """Take in one request; what has changed, by name, to be added up elsewhere."""
        changes = {}
        for kind, amount in amounts.items():
            if amount:
                place = side, bucket, kind
                self.sums[place] = self.sums.get(place, 0.0) + amount
                changes[f"{side} {bucket} {kind}"] = amount
        return changes

    @classmethod
    def of(cls, changes: Mapping[str, float]) -> Comparison:
        """From sums of what :meth:`add` gave, in all processes."""
        found = cls()
        for name, amount in changes.items():
            side, bucket, kind = name.split(" ")
            found.sums[Side(side), int(bucket), kind] = amount
        return found

    def total(self, side: Side, kind: str) -> float:
        """The sum of a kind on one side."""
        return sum(self.sums.get((side, bucket, kind), 0.0) for bucket in range(BUCKETS))

    def mean(self, side: Side, kind: str) -> float | None:
        """Of one reply or request; ``None`` without any."""
        of = self.total(side, _OF[kind])
        return self.total(side, kind) / of if of else None

    def difference(self, kind: str) -> Difference | None:
        """canary - stable of a mean or share; ``None`` while there is too little.

        Ratio of sums over buckets, with its linearised variance, and Welch's interval as the
        holdout has it. W. G. Cochran, "Sampling Techniques" (1977), 6.3.
        """
        stable, canary = (self._arm(side, kind) for side in (Side.STABLE, Side.CANARY))
        if stable is None or canary is None:
            return None
        mean, error = canary.mean - stable.mean, canary.variance + stable.variance
        if error == 0:
            return Difference(mean, mean, mean)
        spread = sum(arm.variance**2 / arm.freedom for arm in (stable, canary))
        quantile = student_quantile(0.5 + CONFIDENCE / 2, error**2 / spread)
        half = quantile * math.sqrt(error)
        return Difference(mean, mean - half, mean + half)

    def _arm(self, side: Side, kind: str) -> _Arm | None:
        of = _OF[kind]
        counts = {b: self.sums.get((side, b, of), 0.0) for b in range(BUCKETS)}
        used = [bucket for bucket, count in counts.items() if count]
        n = sum(counts.values())
        if n < MIN_FOR_INTERVAL or len(used) < MIN_BUCKETS:
            return None
        values = {bucket: self.sums.get((side, bucket, kind), 0.0) for bucket in used}
        mean = sum(values.values()) / n
        squares = sum((values[bucket] - mean * counts[bucket]) ** 2 for bucket in used)
        variance = squares / n**2 * len(used) / (len(used) - 1)
        if kind not in MEANS:
            variance = max(variance, _share_variance(sum(values.values()), n))
        return _Arm(mean, variance, len(used) - 1)


def _share_variance(events: float, n: float) -> float:
    """Of a share with one event and one other more: none of ten is not known to be none at all.

    A. Agresti and B. Caffo, The American Statistician 54 (2000).
    """
    share = (events + 1) / (n + 2)
    return share * (1 - share) / (n + 2)


Why = Literal["down", "refused", "upstream"]
"""Why a request could not be served on its side: its engine was down, it refused the request, or
no upstream of it was to be had."""
