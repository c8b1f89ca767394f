"""The store in PostgreSQL, for servers on several machines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from extracot_server.ledger.sql import TABLES, SqlStore
from extracot_server.ledger.store import StoreError

_CONNECT_SECONDS = 2
_STATEMENT_MS = 2000
_NAME = ' name TEXT COLLATE "C"'
_LOCK = 0x45435354  # any number that nobody else locks: two servers may create the tables at once


class PostgresStore(SqlStore):
    """Tables whose names begin with ``extracot_``, created where they are not there."""

    _name = 'name COLLATE "C"'  # in tables from before, the index has no part in it

    def __init__(self, url: str, shown: str) -> None:
        """``shown`` is the URL without its password, for errors."""
        self._url, self._shown = url, shown
        self._connection: psycopg.Connection | None = None

    def reader(self) -> PostgresStore:
        """See ``Store``."""
        return PostgresStore(self._url, self._shown)

    def now(self) -> float:
        """See ``Store``."""
        return float(self._run("SELECT extract(epoch FROM clock_timestamp())")[0][0])

    def close(self) -> None:
        """See ``Store``."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            with contextlib.suppress(StoreError):
                self._run("ROLLBACK")
            raise

    def _run(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        try:
            marked = query.replace("?", "%s").encode()
            cursor = self._open().execute(marked, tuple(values))
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            text = " ".join(str(error).split())[:200]
            raise StoreError(f"usage store {self._shown}: {text}") from None

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            opened = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=_CONNECT_SECONDS,
                options=f"-c statement_timeout={_STATEMENT_MS}",
                application_name="extracot",
            )
            try:
                with opened.transaction():
                    opened.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                    for table in TABLES:
                        opened.execute(table.replace(" name TEXT", _NAME).encode())
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection
