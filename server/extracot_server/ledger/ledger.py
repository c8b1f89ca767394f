"""The store of usage on a thread of its own, so that no request waits for what another has used.

What was used is put on a heap, which is written as soon as the thread is free: one request alone,
or many that have ended meanwhile. The thread hears of it, and of what is asked of the store, once a
turn of the loop: to wake it for each request costs more than the store does. While the store is
lost the heap grows by counters, not by requests, and is written when it is back: the same batch
again under the same number, which a store carries out once. Knows neither keys nor quotas.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Literal, TypeVar
from uuid import uuid4

from extracot_server.ledger.reports import Reports
from extracot_server.ledger.store import Address, Amounts, Claim, Claimed, Store, StoreError

LOOK_SECONDS = 0.5
TEND_SECONDS = 10.0
RETRY_SECONDS = 1.0
MOST_AT_ONCE = 256
ANSWER_SECONDS = 3.0
"""The longest that a request waits for the store."""

log = logging.getLogger("extracot.server")
T = TypeVar("T")
_Ask = tuple["asyncio.Future[Any]", "Callable[[], Any] | Claim"]
_Job = list[_Ask] | Literal["close"]
"""What one turn of the loop asks; nothing where it has only used something."""
Told = Callable[[bool, int], object]
"""Takes whether the store answers, and how many requests are not in it yet."""


@dataclass(slots=True)
class _Heap:
    """What several requests used, added up, and the claims that it replaces."""

    requests: int = 0
    ids: list[str] = field(default_factory=list)
    amounts: dict[Address, float] = field(default_factory=dict)

    def add(self, claim_id: str | None, amounts: Amounts) -> None:
        self.requests += 1
        if claim_id is not None:
            self.ids.append(claim_id)
        for address, amount in amounts.items():
            self.amounts[address] = self.amounts.get(address, 0.0) + amount


class Ledger:
    """One process's access to a store, for one event loop.

    Opened by :meth:`start`, which raises ``StoreError``.
    """

    def __init__(
        self,
        store: Store,
        told: Told = lambda up, waiting: None,
        *,
        shared: bool = True,
    ) -> None:
        self.told = told
        self.shared = shared
        """Whether other processes can see what this one writes."""
        self._store = store
        self._reports = Reports(store, self._shown)
        self._owner = uuid4().hex
        self._ids = count()
        self._asked: list[_Ask] = []
        self._posts = False  # this turn's word to the thread is on its way
        self._unanswered: deque[tuple[float, asyncio.Future[Any]]] = deque()  # oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._heap = _Heap()
        self._batch: _Heap | None = None  # sent, and perhaps carried out
        self._number = 1
        self._lost_since: float | None = None
        self._retry_at = self._tend_at = 0.0
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        """Reach the store once, so that a wrong one is told at the start; then begin."""
        try:
            self._store.tend(self._owner, self._store.now())
        finally:
            self._store.close()  # what is opened belongs to the thread
        self._thread.start()

    async def close(self) -> None:
        """Write what is left, as far as the store answers."""
        await self._reports.close()
        if self._thread.is_alive():
            self._jobs.put("close")
            await asyncio.to_thread(self._thread.join)

    async def claim(self, claim: Claim) -> Claimed:
        """Raises :class:`StoreError`, also where no answer comes in time."""
        claimed: Claimed = await self._ask(claim)
        return claimed

    async def values(self, addresses: Collection[Address]) -> dict[Address, float]:
        """What these counters hold; raises :class:`StoreError`."""
        return await self._ask(lambda: self._store.values(addresses))

    async def used(self, addresses: Collection[Address]) -> dict[Address, float]:
        """What they hold less what is only claimed; raises :class:`StoreError`.

        It reads much and is only shown: where it fails, the store is not lost for requests.
        """
        return await self._shown(lambda: self._store.used(addresses))

    async def read(self, buckets: Sequence[str]) -> dict[str, dict[str, float]]:
        """All counters of a few buckets, which are only shown; raises :class:`StoreError`."""
        return await self._shown(lambda: self._store.read(buckets))

    async def report(
        self, asker: str, buckets: Sequence[str], key: str | None
    ) -> dict[str, dict[str, float]]:
        """All counters of many buckets, of one key or (``None``) all, while requests go on.

        Raises :class:`StoreError`, and ``ReportRefusedError`` where there are too many reports.
        """
        if self._lost_since is not None:  # and what is not written yet would be missing
            raise StoreError("usage store: lost, and not back yet")
        return await self._reports.read(asker, buckets, key)

    def claim_id(self) -> str:
        """Names a new claim. No other process has the same, nor this one after a restart."""
        return f"{self._owner}-{next(self._ids)}"

    def settle(self, claim_id: str | None, amounts: Amounts) -> None:
        """Note what a request has used instead of its claim, to be written soon. Never waits.

        On the loop, as all of these.
        """
        with self._lock:
            self._heap.add(claim_id, amounts)
        self._post_soon(asyncio.get_running_loop())

    async def _shown(self, work: Callable[[], T]) -> T:
        """What is only shown: where it fails, the store is not lost for requests."""

        def look() -> T | StoreError:
            try:
                return work()
            except StoreError as error:
                return error

        found = await self._ask(look)
        if isinstance(found, StoreError):
            raise found
        return found

    async def _ask(self, work: Callable[[], T] | Claim) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._asked.append((future, work))
        self._post_soon(loop)
        while self._unanswered and self._unanswered[0][1].done():
            self._unanswered.popleft()
        self._unanswered.append((loop.time() + ANSWER_SECONDS, future))
        if self._timer is None:
            self._timer = loop.call_later(ANSWER_SECONDS, self._give_up, loop)
        return await future

    def _post_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell the thread at the end of this turn, with all that others ask in it."""
        if not self._posts:
            self._posts = True
            loop.call_soon(self._post)

    def _post(self) -> None:
        asked, self._asked, self._posts = self._asked, [], False
        self._jobs.put(asked)

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those who have waited long enough; one timer does for all."""
        while self._unanswered:
            due, future = self._unanswered[0]
            if not future.done() and due > loop.time():
                self._timer = loop.call_at(due, self._give_up, loop)
                return
            self._unanswered.popleft()
            _tell([future], StoreError("usage store: no answer in time"))
        self._timer = None

    # -------------------------------------------------------------------------- on the thread

    def _run(self) -> None:
        jobs: list[_Job] = []
        while "close" not in jobs:
            jobs = self._next()
            self._keep_up(last="close" in jobs)
            # Nobody waits any more for what is done: it was too late, or its client has left.
            posts = [job for job in jobs if not isinstance(job, str)]
            asked = [ask for post in posts for ask in post if not ask[0].done()]
            claims = [(future, work) for future, work in asked if isinstance(work, Claim)]
            for start in range(0, len(claims), MOST_AT_ONCE):  # a store is asked once for many
                part = claims[start : start + MOST_AT_ONCE]
                wanted = [claim for _, claim in part]
                self._answer([future for future, _ in part], partial(self._claim, wanted))
            for future, work in asked:
                if not isinstance(work, Claim):
                    self._answer([future], partial(_alone, work))
        if left := self._waiting():
            log.error("the usage of %d requests was not written: the store is lost", left)
        self._store.close()

    def _next(self) -> list[_Job]:
        """Wait for a job, and take all that have come meanwhile."""
        jobs: list[_Job] = []
        try:
            jobs.append(self._jobs.get(timeout=LOOK_SECONDS))
            while len(jobs) < MOST_AT_ONCE:
                jobs.append(self._jobs.get_nowait())
        except Empty:
            pass
        return jobs

    def _claim(self, claims: Sequence[Claim]) -> list[Claimed]:
        return self._store.claim(self._owner, claims)

    def _answer(
        self, futures: Sequence[asyncio.Future[Any]], work: Callable[[], Sequence[Any]]
    ) -> None:
        """Carry out a job, and tell those who wait for it."""
        outcome: Sequence[Any] | StoreError
        if self._lost_since is not None:
            outcome = StoreError("usage store: lost, and not back yet")
        else:
            try:
                outcome = work()
            except StoreError as error:
                self._lost(error)
                outcome = error
        futures[0].get_loop().call_soon_threadsafe(_tell, futures, outcome)

    def _keep_up(self, *, last: bool = False) -> None:
        """Write the heap, and show that this process is there, where it is time for it."""
        now = monotonic()
        if self._lost_since is not None and now < self._retry_at and not last:
            return
        try:
            if now >= self._tend_at or self._lost_since is not None:
                self._store.tend(self._owner, self._store.now())
                self._tend_at = now + TEND_SECONDS
            self._write()
        except StoreError as error:
            self._lost(error)
        else:
            self._found()

    def _write(self) -> None:
        while True:
            if self._batch is None:
                with self._lock:
                    if not self._heap.requests:
                        return
                    self._batch, self._heap = self._heap, _Heap()
            batch = self._batch
            self._store.settle(self._owner, self._number, batch.ids, batch.amounts)
            self._number += 1
            self._batch = None

    def _lost(self, error: StoreError) -> None:
        if self._lost_since is None:
            self._lost_since = monotonic()
            log.warning("%s; what is used is written when it is back", error)
        self._retry_at = monotonic() + RETRY_SECONDS
        self._store.close()
        self.told(False, self._waiting())

    def _found(self) -> None:
        if self._lost_since is not None:
            log.warning("the usage store is back after %.0f s", monotonic() - self._lost_since)
            self._lost_since = None
        self.told(True, self._waiting())

    def _waiting(self) -> int:
        with self._lock:
            return self._heap.requests + (0 if self._batch is None else self._batch.requests)


def _alone(work: Callable[[], Any]) -> list[Any]:
    return [work()]


def _tell(futures: Sequence[asyncio.Future[Any]], outcome: Sequence[Any] | StoreError) -> None:
    """On the loop: give each its result, or all the error."""
    for number, future in enumerate(futures):
        if future.done():
            continue
        if isinstance(outcome, StoreError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome[number])
