"""The store as three SQL tables, in what SQLite and PostgreSQL have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from extracot_server.ledger.store import (
    FORGOTTEN_SECONDS,
    LOST_SECONDS,
    Address,
    Amounts,
    Claim,
    Claimed,
    taken_back,
)
from extracot_server.ledger.windows import expires

TABLES = (
    "CREATE TABLE IF NOT EXISTS extracot_counters (bucket TEXT NOT NULL, name TEXT NOT NULL, "
    "value DOUBLE PRECISION NOT NULL, expires BIGINT NOT NULL, PRIMARY KEY (bucket, name))",
    "CREATE TABLE IF NOT EXISTS extracot_claims (id TEXT PRIMARY KEY, owner TEXT NOT NULL, "
    "amounts TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS extracot_owners (owner TEXT PRIMARY KEY, "
    "seen DOUBLE PRECISION NOT NULL, number BIGINT NOT NULL)",
)
_ADD = (
    "INSERT INTO extracot_counters (bucket, name, value, expires) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (bucket, name) DO UPDATE SET value = extracot_counters.value + excluded.value "
    "RETURNING value"
)
_SEEN = (
    "INSERT INTO extracot_owners (owner, seen, number) VALUES (?, ?, 0) "
    "ON CONFLICT (owner) DO UPDATE SET seen = excluded.seen"
)
_NUMBERED = (
    "INSERT INTO extracot_owners (owner, seen, number) VALUES (?, 0, ?) "
    "ON CONFLICT (owner) DO UPDATE SET number = excluded.number"
)
_LOST = (
    "DELETE FROM extracot_claims WHERE owner NOT IN "
    "(SELECT owner FROM extracot_owners WHERE seen >= ?) RETURNING amounts"
)
_AT_ONCE = 300  # parameters of one query


class SqlStore(ABC):
    """A :class:`~extracot_server.ledger.store.Store` in a database."""

    @abstractmethod
    def _run(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query with ``?`` for values; ``StoreError`` where it fails."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """All of its block, or nothing where it raises."""

    def claim(self, owner: str, claim: Claim) -> Claimed:
        """See ``Store``."""
        used: dict[Address, float] = {}
        try:
            with self._transaction():
                for address, amount in sorted(claim.amounts.items()):
                    used[address] = self._add(address, amount) - amount
                if any(used[a] + claim.amounts[a] > most for a, most in claim.limits.items()):
                    raise _OverLimitError
                rows = [(*address, amount) for address, amount in claim.amounts.items()]
                row = (claim.id, owner, json.dumps(rows))
                self._run("INSERT INTO extracot_claims (id, owner, amounts) VALUES (?, ?, ?)", row)
        except _OverLimitError:
            return Claimed(False, used)
        return Claimed(True, used)

    def settle(self, owner: str, number: int, ids: Sequence[str], amounts: Amounts) -> None:
        """See ``Store``."""
        with self._transaction():
            last = self._run("SELECT number FROM extracot_owners WHERE owner = ?", [owner])
            if last and last[0][0] >= number:
                return
            claims = []
            for part, marks in _parts(ids):
                query = f"DELETE FROM extracot_claims WHERE id IN ({marks}) RETURNING amounts"
                claims += self._run(query, part)
            self._add_all(claims, amounts)
            self._run(_NUMBERED, [owner, number])

    def values(self, addresses: Collection[Address]) -> dict[Address, float]:
        """See ``Store``."""
        query = "SELECT value FROM extracot_counters WHERE bucket = ? AND name = ?"
        found = {address: self._run(query, address) for address in addresses}
        return {address: float(rows[0][0]) if rows else 0.0 for address, rows in found.items()}

    def read(self, buckets: Sequence[str]) -> dict[str, dict[str, float]]:
        """See ``Store``."""
        found: dict[str, dict[str, float]] = {}
        for part, marks in _parts(buckets):
            query = f"SELECT bucket, name, value FROM extracot_counters WHERE bucket IN ({marks})"
            for bucket, name, value in self._run(query, part):
                found.setdefault(bucket, {})[name] = float(value)
        return found

    def tend(self, owner: str, now: float) -> None:
        """See ``Store``."""
        with self._transaction():
            self._run(_SEEN, [owner, now])
            self._add_all(self._run(_LOST, [now - LOST_SECONDS]), {})
            gone = "DELETE FROM extracot_counters WHERE expires > 0 AND expires < ?"
            self._run(gone, [int(now)])
            old = "DELETE FROM extracot_owners WHERE seen < ? AND owner <> ?"
            self._run(old, [now - FORGOTTEN_SECONDS, owner])

    def _add_all(self, claims: Sequence[tuple[Any, ...]], amounts: Amounts) -> None:
        for address, amount in taken_back([json.loads(row[0]) for row in claims], amounts).items():
            if amount:
                self._add(address, amount)

    def _add(self, address: Address, amount: float) -> float:
        rows = self._run(_ADD, [*address, amount, expires(address[0])])
        return float(rows[0][0])


class _OverLimitError(Exception):
    """Ends a transaction that must not be carried out."""


def _parts(values: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """So many at a time, with a mark for each."""
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        yield part, ", ".join("?" * len(part))
