"""The store as three SQL tables, in what SQLite and PostgreSQL have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from math import inf
from typing import Any, TypeVar

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
    "INSERT INTO extracot_counters (bucket, name, value, expires) VALUES {marks} "
    "ON CONFLICT (bucket, name) DO UPDATE SET value = extracot_counters.value + excluded.value "
    "RETURNING bucket, name, value"
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
_PARAMETERS = 900  # of one query; SQLite allows no more than 999 in its older builds
_T = TypeVar("_T")


class SqlStore(ABC):
    """A :class:`~extracot_server.ledger.store.Store` in a database."""

    _name = "name"
    """The name of a counter in the order of its bytes, in which those of a key are side by side."""

    @abstractmethod
    def _run(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query with ``?`` for values; ``StoreError`` where it fails."""

    @abstractmethod
    def reader(self) -> SqlStore | None:
        """See ``Store``."""

    @abstractmethod
    def now(self) -> float:
        """See ``Store``."""

    @abstractmethod
    def close(self) -> None:
        """See ``Store``."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """All of its block, or nothing where it raises."""

    def claim(self, owner: str, claims: Sequence[Claim]) -> list[Claimed]:
        """See ``Store``. All of them at once, as they mostly fit; else one by one."""
        together = self._claim_all(owner, claims)
        if together is not None:
            return together
        return [self._claim_one(owner, claim) for claim in claims]

    def _claim_one(self, owner: str, claim: Claim) -> Claimed:
        admitted = self._claim_all(owner, [claim])
        return Claimed(False, self.values(claim.amounts)) if admitted is None else admitted[0]

    def _claim_all(self, owner: str, claims: Sequence[Claim]) -> list[Claimed] | None:
        """Claim them all; ``None``, and nothing is changed, where one would pass its limit."""
        total: dict[Address, float] = {}
        for claim in claims:
            for address, amount in claim.amounts.items():
                total[address] = total.get(address, 0.0) + amount
        try:
            with self._transaction():
                held = {address: value - total[address] for address, value in self._add(total)}
                admitted = []
                for claim in claims:
                    admitted.append(Claimed(True, {a: held[a] for a in claim.amounts}))
                    for address, amount in claim.amounts.items():
                        held[address] += amount
                        if held[address] > claim.limits.get(address, inf):
                            raise OverLimitError
                for part in _parts(claims, 3):
                    marks = ", ".join(["(?, ?, ?)"] * len(part))
                    rows = [(c.id, owner, json.dumps(_rows(c.amounts))) for c in part]
                    query = f"INSERT INTO extracot_claims (id, owner, amounts) VALUES {marks}"
                    self._run(query, chain.from_iterable(rows))
        except OverLimitError:
            return None
        return admitted

    def settle(self, owner: str, number: int, ids: Sequence[str], amounts: Amounts) -> None:
        """See ``Store``."""
        with self._transaction():
            last = self._run("SELECT number FROM extracot_owners WHERE owner = ?", [owner])
            if last and last[0][0] >= number:
                return
            claims = []
            for part in _parts(ids):
                query = f"DELETE FROM extracot_claims WHERE id IN ({_marks(part)})"
                claims += self._run(f"{query} RETURNING amounts", part)
            self._settle(claims, amounts)
            self._run(_NUMBERED, [owner, number])

    def values(self, addresses: Collection[Address]) -> dict[Address, float]:
        """See ``Store``."""
        query = "SELECT value FROM extracot_counters WHERE bucket = ? AND name = ?"
        found = {address: self._run(query, address) for address in addresses}
        return {address: float(rows[0][0]) if rows else 0.0 for address, rows in found.items()}

    def used(self, addresses: Collection[Address]) -> dict[Address, float]:
        """See ``Store``. Both in one query, so that no claim is made or settled in between."""
        found = dict.fromkeys(addresses, 0.0)
        for part in _parts(list(found), 2):
            counters = " OR ".join(["(bucket = ? AND name = ?)"] * len(part))
            query = f"SELECT bucket, name, value FROM extracot_counters WHERE {counters}"
            query += " UNION ALL SELECT '', amounts, 0 FROM extracot_claims"
            wanted = set(part)
            for bucket, name, value in self._run(query, chain.from_iterable(part)):
                if bucket:
                    found[bucket, name] += float(value)
                    continue
                for *address, amount in json.loads(name):
                    if (claimed := tuple(address)) in wanted:
                        found[claimed] -= amount
        return found

    def read(self, buckets: Sequence[str], key: str | None = None) -> dict[str, dict[str, float]]:
        """See ``Store``."""
        found: dict[str, dict[str, float]] = {}
        for part in _parts(buckets):
            query = "SELECT bucket, name, value FROM extracot_counters WHERE bucket IN"
            query += f" ({_marks(part)})"
            values = [*part]
            if key is not None:  # `!` follows on the space
                query += f" AND {self._name} >= ? AND {self._name} < ?"
                values += [f"{key} ", f"{key}!"]
            for bucket, name, value in self._rows(query, values):
                found.setdefault(bucket, {})[name] = float(value)
        return found

    def _rows(self, query: str, values: Iterable[object]) -> Iterable[tuple[Any, ...]]:
        """As ``_run``, for many rows."""
        return self._run(query, values)

    def tend(self, owner: str, now: float) -> None:
        """See ``Store``."""
        with self._transaction():
            self._run(_SEEN, [owner, now])
            self._settle(self._run(_LOST, [now - LOST_SECONDS]), {})
            gone = "DELETE FROM extracot_counters WHERE expires > 0 AND expires < ?"
            self._run(gone, [int(now)])
            old = "DELETE FROM extracot_owners WHERE seen < ? AND owner <> ?"
            self._run(old, [now - FORGOTTEN_SECONDS, owner])

    def _settle(self, claims: Sequence[tuple[Any, ...]], amounts: Amounts) -> None:
        changed = taken_back([json.loads(row[0]) for row in claims], amounts)
        self._add({address: amount for address, amount in changed.items() if amount})

    def _add(self, amounts: Amounts) -> list[tuple[Address, float]]:
        """Add to counters, in the order of addresses; what they hold then."""
        found: list[tuple[Address, float]] = []
        for part in _parts(sorted(amounts), 4):
            rows = [(*address, amounts[address], expires(address[0])) for address in part]
            query = _ADD.format(marks=", ".join(["(?, ?, ?, ?)"] * len(part)))
            for bucket, name, value in self._run(query, chain.from_iterable(rows)):
                found.append(((bucket, name), float(value)))
        return found


class OverLimitError(Exception):
    """Ends a claim that must not be carried out, and nothing of it is."""


def _rows(amounts: Amounts) -> list[tuple[str, str, float]]:
    return [(*address, amount) for address, amount in amounts.items()]


def _parts(values: Sequence[_T], parameters: int = 1) -> Iterator[Sequence[_T]]:
    """So many at a time as a query has parameters for."""
    most = _PARAMETERS // parameters
    for start in range(0, len(values), most):
        yield values[start : start + most]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
