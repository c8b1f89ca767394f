"""The store in one SQLite file that several processes of this machine may share (WAL)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from extracot_server.ledger.sql import TABLES, SqlStore
from extracot_server.ledger.store import StoreError

_BUSY_SECONDS = 2.0


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

    def _run(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._open().execute(query, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"usage store {self._path or 'in memory'}: {error}") from None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            opened = sqlite3.connect(
                self._path or ":memory:",
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # one after the other: see ledger.start
            )
            try:
                opened.execute("PRAGMA journal_mode = WAL")
                opened.execute("PRAGMA synchronous = NORMAL")
                for table in TABLES:
                    opened.execute(table)
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection
