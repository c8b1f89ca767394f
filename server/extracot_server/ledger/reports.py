"""Reports of usage: read a few days at a time, beside what requests ask of the store.

They have a thread and a connection of their own, so that no request waits for one, and one that
fails says nothing of the store. A store in memory has one connection: there each part is asked for
like everything else, and requests take their turns between the parts. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from extracot_server.admission.scheduler import Refusal, RefusedError
from extracot_server.ledger.store import Store, StoreError

REPORT_SECONDS = 10.0
MOST_REPORTS = 8
"""How many may be under way in a process, one of each key."""
PART_BUCKETS = 48
Kept = dict[str, dict[str, float]]
Beside = Callable[[Callable[[], Kept]], Awaitable[Kept]]
"""Carries out a piece of work on the thread that requests ask, and loses no store by it."""


class ReportRefusedError(RefusedError):
    """There are too many reports, or the store gives none now."""

    def __init__(self, reason: Refusal, text: str, retry_after: int = 1) -> None:
        super().__init__(reason, retry_after)
        self.args = (text,)


class Reports:
    """The reports of one process, for one event loop."""

    def __init__(self, store: Store, beside: Beside) -> None:
        self._store, self._beside = store, beside
        self._reader = store.reader()
        self._thread = ThreadPoolExecutor(1, "usage-reports")
        self._askers: set[str] = set()
        self._closed = False

    async def read(self, asker: str, buckets: Sequence[str], key: str | None) -> Kept:
        """All counters of these buckets whose names begin with ``key``; of all keys for ``None``.

        Raises :class:`ReportRefusedError` where this asker has a report under way, or too many
        others have, and :class:`StoreError`, also where it takes too long.
        """
        if asker in self._askers:
            text = "This API key has a report of usage under way; ask again when that has come."
            raise ReportRefusedError(Refusal.CONCURRENCY, text)
        if len(self._askers) >= MOST_REPORTS:
            text = f"{MOST_REPORTS} reports of usage are under way; try again shortly."
            raise ReportRefusedError(Refusal.QUEUE_FULL, text)
        self._askers.add(asker)
        found: Kept = {}
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                for start in range(0, len(buckets), PART_BUCKETS):
                    found |= await self._part(buckets[start : start + PART_BUCKETS], key)
        except TimeoutError:
            raise StoreError("usage store: a report took too long") from None
        finally:
            self._askers.discard(asker)
            if not self._askers and not self._closed and self._reader is not None:
                self._thread.submit(self._reader.close)
        return found

    async def close(self) -> None:
        """Let go of the connection, after the part that is being read."""
        self._closed = True
        if self._reader is not None:
            closing = self._thread.submit(self._reader.close)
            await asyncio.wrap_future(closing)
        self._thread.shutdown()

    async def _part(self, buckets: Sequence[str], key: str | None) -> Kept:
        reader = self._reader
        if reader is None:
            return await self._beside(partial(self._store.read, buckets, key))
        read = partial(_read, reader, buckets, key)
        return await asyncio.get_running_loop().run_in_executor(self._thread, read)


def _read(reader: Store, buckets: Sequence[str], key: str | None) -> Kept:
    """On the thread: one part; after an error the next one has a new connection."""
    try:
        return reader.read(buckets, key)
    except StoreError:
        reader.close()
        raise
