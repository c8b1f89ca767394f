"""Runs the batches of a folder, old and new, one process at a time.

Of the processes that share a folder the one that holds its lock runs all batches; when it ends,
however it ends, another takes over. The lock is the kernel's, so a killed process leaves none.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from extracot_server.admission.queue import RequestQueue
from extracot_server.admission.scheduler import Scheduler
from extracot_server.batches.cleaning import clean
from extracot_server.batches.records import BatchStatus, StoredBatch
from extracot_server.batches.running import BatchRun, Pauses, Send
from extracot_server.batches.standstill import to_give_up
from extracot_server.batches.store import BatchStore

log = logging.getLogger("extracot.batches")
_CLEAN_EVERY = 600.0


class BatchObserver(Protocol):
    """Counts batches."""

    def batches_running(self, count: int) -> None:
        """So many run now."""

    def batch_ended(self, status: str, completed: int, failed: int) -> None:
        """A batch has ended, with its lines."""


@dataclass(slots=True)
class BatchRunner:
    """The background work of one process."""

    store: BatchStore
    send: Send
    max_body: int
    observer: BatchObserver
    pauses: Pauses = field(default_factory=Pauses)
    slots: RequestQueue = field(init=False)
    suspects: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: dict[str, asyncio.Task[BatchStatus]] = field(default_factory=dict)
    _runs: dict[str, BatchRun] = field(default_factory=dict)
    _just_ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        places = Scheduler(self.store.settings.batch_concurrency, max_queued=sys.maxsize)
        self.slots = RequestQueue(places)

    def wake(self) -> None:
        """There is a new batch: look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled. What runs then is resumed by the next process."""
        lock = os.open(self.store.folder / "runner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _locked(lock):
                await asyncio.sleep(self.pauses.look)
            await self._run()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            os.close(lock)

    async def _run(self) -> None:
        loop, cleaned = asyncio.get_running_loop(), float("-inf")
        while True:
            self._wake.clear()
            self._just_ended.clear()  # a look that began before may still see them run
            due = loop.time() - cleaned > _CLEAN_EVERY
            try:
                if due:
                    await asyncio.to_thread(self.store.mark_unfinished)
                for owner, batch in await asyncio.to_thread(lambda: [*self.store.unfinished()]):
                    if batch.id not in self._tasks and batch.id not in self._just_ended:
                        self._start(owner, batch)
                if due:
                    await asyncio.to_thread(clean, self.store)
                    cleaned = loop.time()
                await self._end_standstill()
            except OSError as error:
                log.warning("the folder of batches cannot be read: %s", error)
            try:
                await asyncio.wait_for(self._wake.wait(), self.pauses.look)
            except TimeoutError:
                continue

    def _start(self, owner: str, batch: StoredBatch) -> None:
        shared = (self.slots, self.suspects, self.max_body, self.pauses)
        run = BatchRun(self.store, owner, batch, self.send, *shared)
        again = "resumed" if batch.times.get("in_progress") else "begins"
        log.info("batch %s of %s %s", batch.id, owner or "everybody", again)
        self._runs[batch.id] = run
        task = self._tasks[batch.id] = asyncio.create_task(run.run())
        self._count()
        task.add_done_callback(lambda done: self._ended(batch, done))

    async def _end_standstill(self) -> None:
        """Where batches wait for room that only the end of one of them makes, end one."""
        busy = {run.owner for run in self._runs.values() if not run.waits}
        waiting = [run for run in self._runs.values() if run.owner not in busy]
        if not waiting:
            return
        found = await asyncio.to_thread(to_give_up, self.store, waiting, not busy)
        if found is not None:
            run, room = found
            log.warning("batch %s is given up: %s", run.batch.id, room.taken())
            run.give_up(room)

    def _ended(self, batch: StoredBatch, task: asyncio.Task[BatchStatus]) -> None:
        del self._runs[batch.id]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            # It stays in the list for a while, and then goes on with what is on the disk.
            log.error("batch %s broke off, and is tried again", batch.id, exc_info=error)
            again = partial(self._tasks.pop, batch.id, None)
            asyncio.get_running_loop().call_later(self.pauses.longest, again)
        else:
            del self._tasks[batch.id]
            self._just_ended.add(batch.id)
            self.observer.batch_ended(task.result(), batch.counts.completed, batch.counts.failed)
            log.info(
                "batch %s %s: %d of %d lines, %d failed",
                *(batch.id, batch.status, batch.counts.completed),
                *(batch.counts.total, batch.counts.failed),
            )
        self._count()

    def _count(self) -> None:
        self.observer.batches_running(len(self._runs))


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
