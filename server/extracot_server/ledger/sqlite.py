"""The store in one SQLite file that several processes of this machine may share (WAL).

A claim and a settlement are one statement each, whose steps are a trigger's. SQLite lets go of
Python's lock at every step of a statement, and a thread beside a busy event loop waits up to 5 ms
to get it back: in a transaction of many statements it did so a dozen times and more, and nobody
else could write meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

from extracot_server.ledger.sql import TABLES, OverLimitError, SqlStore
from extracot_server.ledger.store import Address, Amounts, Claim, Claimed, StoreError
from extracot_server.ledger.windows import KEPT

log = logging.getLogger("extracot.server")
_BUSY_SECONDS = 2.0
_OVER = "over a limit"
_KEPT = " ".join(f"WHEN '{kind}' THEN {seconds}" for kind, seconds in KEPT.items())
_EXPIRES = (  # as ``windows.expires``
    f"coalesce(CASE substr(bucket, 1, instr(bucket, ':') - 1) {_KEPT} END "
    "+ CAST(substr(bucket, instr(bucket, ':') + 1) AS INTEGER), 0)"
)
_ADD = (
    f"INSERT INTO extracot_counters (bucket, name, value, expires) SELECT bucket, name, value, "
    f"{_EXPIRES} FROM ({{rows}}) WHERE true "
    "ON CONFLICT (bucket, name) DO UPDATE SET value = value + excluded.value;"
)


def _columns(json_list: str, *names: str) -> str:
    """The rows of a JSON list of lists."""
    columns = (f"json_extract(value, '$[{at}]') AS {name}" for at, name in enumerate(names))
    return f"SELECT {', '.join(columns)} FROM json_each({json_list})"


_CLAIMED = _columns("NEW.amounts", "bucket", "name", "value", "most")
_USED = _columns("NEW.amounts", "bucket", "name", "value")
_TAKEN = (
    "SELECT json_extract(one.value, '$[0]'), json_extract(one.value, '$[1]'), "
    "-json_extract(one.value, '$[2]') FROM json_each(NEW.ids) AS id "
    "JOIN extracot_claims AS claim ON claim.id = id.value, json_each(claim.amounts) AS one"
)
_CHANGED = (
    f"SELECT bucket, name, sum(value) AS value FROM ({_USED} UNION ALL {_TAKEN}) "
    "GROUP BY bucket, name HAVING sum(value) <> 0"
)
_STATEMENTS = (  # this connection's own, in no file
    "CREATE TEMP TABLE extracot_held (bucket, name, value, most)",
    "CREATE TEMP VIEW extracot_claiming AS SELECT 0 AS owner, 0 AS claims, 0 AS amounts",
    "CREATE TEMP TRIGGER extracot_claim INSTEAD OF INSERT ON extracot_claiming BEGIN "
    "DELETE FROM extracot_held; "
    f"{_ADD.format(rows=_CLAIMED)} "
    f"INSERT INTO extracot_held SELECT bucket, name, c.value, most FROM ({_CLAIMED}) "
    "JOIN extracot_counters AS c USING (bucket, name); "
    f"SELECT raise(ABORT, '{_OVER}') FROM extracot_held WHERE value > most; "
    "INSERT INTO extracot_claims (id, owner, amounts) SELECT id, NEW.owner, amounts "
    f"FROM ({_columns('NEW.claims', 'id', 'amounts')}); END",
    "CREATE TEMP VIEW extracot_settling AS SELECT 0 AS owner, 0 AS number, 0 AS ids, 0 AS amounts",
    "CREATE TEMP TRIGGER extracot_settle INSTEAD OF INSERT ON extracot_settling "
    "WHEN NOT EXISTS (SELECT 1 FROM extracot_owners WHERE owner = NEW.owner "
    "AND number >= NEW.number) BEGIN "
    f"{_ADD.format(rows=_CHANGED)} "
    "DELETE FROM extracot_claims WHERE id IN (SELECT value FROM json_each(NEW.ids)); "
    "INSERT INTO extracot_owners (owner, seen, number) VALUES (NEW.owner, 0, NEW.number) "
    "ON CONFLICT (owner) DO UPDATE SET number = excluded.number; END",
)


class SqliteStore(SqlStore):
    """A file, or memory (``None``) that is lost with the process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """See ``Store``. Memory stays: there is no other copy of it."""
        if self._connection is not None and self._path is not None:
            self._connection.close()
            self._connection = None

    def reader(self) -> SqliteStore | None:
        """See ``Store``."""
        return None if self._path is None else SqliteStore(self._path)

    def now(self) -> float:
        """See ``Store``. Who shares a file is on one machine."""
        return time()

    def settle(self, owner: str, number: int, ids: Sequence[str], amounts: Amounts) -> None:
        """See ``Store``."""
        used = [(*address, amount) for address, amount in amounts.items()]
        self._run(
            "INSERT INTO extracot_settling VALUES (?, ?, ?, ?)",
            [owner, number, json.dumps(ids), json.dumps(used)],
        )

    def _claim_all(self, owner: str, claims: Sequence[Claim]) -> list[Claimed] | None:
        total, most = _together(claims)
        rows = [(*address, total[address], most.get(address)) for address in total]
        listed = [(c.id, [(*address, n) for address, n in c.amounts.items()]) for c in claims]
        try:
            self._run(
                "INSERT INTO extracot_claiming VALUES (?, ?, ?)",
                [owner, json.dumps(listed), json.dumps(rows)],
            )
        except OverLimitError:
            return None
        found = self._run("SELECT bucket, name, value FROM extracot_held")
        held = {(bucket, name): value - total[bucket, name] for bucket, name, value in found}
        admitted = []
        for claim in claims:
            admitted.append(Claimed(True, {address: held[address] for address in claim.amounts}))
            for address, amount in claim.amounts.items():
                held[address] += amount
        return admitted

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            with contextlib.suppress(StoreError):  # a full disk has ended it already
                self._run("ROLLBACK")
            raise

    def _rows(self, query: str, values: Iterable[object]) -> Iterable[tuple[Any, ...]]:
        """One row in place of many: see above, of each step."""
        as_one = f"SELECT json_group_array(json_array(bucket, name, value)) FROM ({query})"
        rows: list[tuple[Any, ...]] = json.loads(self._run(as_one, values)[0][0])
        return rows

    def _run(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._open().execute(query, tuple(values)).fetchall()
        except sqlite3.Error as error:
            if str(error) == _OVER:
                raise OverLimitError from None
            raise StoreError(f"usage store {self._path or 'in memory'}: {error}") from None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path is not None:
                _make(self._path)
            opened = sqlite3.connect(
                self._path or ":memory:",
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # one after the other: see ledger.start
            )
            try:
                _use_wal(opened)
                opened.execute("PRAGMA synchronous = NORMAL")
                opened.execute("PRAGMA temp_store = MEMORY")
                for statement in (*TABLES, *_STATEMENTS):
                    opened.execute(statement)
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection


def _use_wal(opened: sqlite3.Connection) -> None:
    """Unlike for everything else SQLite does not always wait where others hold a new file, as
    processes do that start at once. Blocking."""
    until = monotonic() + _BUSY_SECONDS
    while True:
        try:
            opened.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
        sleep(0.01)


def keep_private(path: Path) -> None:
    """Take a file that is there from those who may only read it, or say that others may write it.

    It has what every key has used, for the server's user alone. Who shares it by its mode has given
    others the right to write, without which SQLite's WAL is of no use to them.
    """
    for file in (path, *(path.with_name(f"{path.name}-{end}") for end in ("wal", "shm"))):
        with contextlib.suppress(OSError):  # not there, or another's: below
            if file.stat().st_mode & 0o077 and not file.stat().st_mode & 0o022:
                file.chmod(0o600)
    with contextlib.suppress(OSError):
        if (mode := path.stat().st_mode & 0o777) & 0o077:
            told = "usage store %s has mode %03o: others than its user may open it (chmod 600)"
            log.warning(told, path, mode)


def _make(path: Path) -> None:
    """Where there is no such file, an empty one, for its user alone; SQLite copies the mode."""
    with contextlib.suppress(OSError):  # there is one; or SQLite says what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _together(claims: Sequence[Claim]) -> tuple[dict[Address, float], dict[Address, float]]:
    """What claims add up to, and what their counters may hold then, so that none is over its limit.

    >>> spot = ("day:0", "key a tokens")
    >>> _together([Claim("x", {spot: 60}, {spot: 100}), Claim("y", {spot: 20}, {spot: 70})])
    ({('day:0', 'key a tokens'): 80.0}, {('day:0', 'key a tokens'): 70.0})
    """
    total: dict[Address, float] = {}
    room: dict[Address, float] = {}  # what a counter may hold before the first of them
    for claim in claims:
        for address, amount in claim.amounts.items():
            total[address] = so_far = total.get(address, 0.0) + amount
            if address in claim.limits:
                left = claim.limits[address] - so_far
                room[address] = min(left, room.get(address, inf))
    return total, {address: total[address] + left for address, left in room.items()}
