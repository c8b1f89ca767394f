"""What a store of usage does, whichever it is: counters that are added to, and claims on them.

A counter is a number at an address: a bucket (a window of time) and a name. A claim adds to
counters for a request that is about to run, or to none of them where one would pass its limit;
settling takes the claim back and adds what was used instead. Called by one thread; a report has a
connection of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from extracot.errors import ExtracotError

Address = tuple[str, str]
Amounts = Mapping[Address, float]
LOST_SECONDS = 60.0
"""Claims of a process that has not been heard of for so long are taken back."""
FORGOTTEN_SECONDS = 30 * 86400.0
"""A process not heard of for so long has nothing left to settle."""


class StoreError(ExtracotError):
    """The store cannot be reached or written; one line, without its password."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request may use at most, and the limits of the counters it adds to."""

    id: str
    amounts: Amounts
    limits: Mapping[Address, float]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of a claim; ``used`` is what each counter held before it."""

    admitted: bool
    used: Mapping[Address, float]


class Store(Protocol):
    """A store. Every method raises :class:`StoreError`, and may be called again after it."""

    def claim(self, owner: str, claims: Sequence[Claim]) -> list[Claimed]:
        """Add each claim to all of its counters, or to none where one would pass its limit."""

    def settle(self, owner: str, number: int, ids: Sequence[str], amounts: Amounts) -> None:
        """Take the claims with these ids back, as far as there are any, and add what was used.

        ``number`` counts an owner's calls: one that has been carried out is not again.
        """

    def values(self, addresses: Collection[Address]) -> dict[Address, float]:
        """What these counters hold."""

    def used(self, addresses: Collection[Address]) -> dict[Address, float]:
        """What these counters hold, less all open claims on them."""

    def read(self, buckets: Sequence[str], key: str | None = None) -> dict[str, dict[str, float]]:
        """All counters of these buckets; with a key those whose names are its own and a space."""

    def reader(self) -> Store | None:
        """Another connection to the same counters, for another thread; ``None``: there is none."""

    def now(self) -> float:
        """Unix seconds by the store's own clock, which all who share it go by."""

    def tend(self, owner: str, now: float) -> None:
        """Say that the owner is there, take back lost claims, drop what has expired."""

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""


def taken_back(claims: Sequence[Sequence[tuple[str, str, float]]], amounts: Amounts) -> Amounts:
    """``amounts`` less what claims had added, in the order of addresses.

    One order for everybody, so that two servers do not wait for each other's rows.
    """
    total = dict(amounts)
    for claim in claims:
        for bucket, name, amount in claim:
            total[bucket, name] = total.get((bucket, name), 0.0) - amount
    return dict(sorted(total.items()))
