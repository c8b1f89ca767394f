"""Runs the batches of a folder, old and new, one process at a time.

Of the processes that share a folder the one that holds its lock runs all batches; when it ends,
however it ends, another takes over. The lock is the kernel's, so a killed process leaves none.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from dataclasses import dataclass, field
from typing import Protocol

from extracot_server.batches.records import BatchStatus, StoredBatch
from extracot_server.batches.running import BatchRun, Pauses, Send
from extracot_server.batches.store import BatchStore
from extracot_server.batches.turns import Turns

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
    slots: Turns = field(init=False)
    suspects: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _runs: dict[str, asyncio.Task[BatchStatus]] = field(default_factory=dict)
    _just_ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.slots = Turns(self.store.settings.batch_concurrency)

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
            for task in self._runs.values():
                task.cancel()
            await asyncio.gather(*self._runs.values(), return_exceptions=True)
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
                    if batch.id not in self._runs and batch.id not in self._just_ended:
                        self._start(owner, batch)
                if due:
                    await asyncio.to_thread(self.store.clean)
                    cleaned = loop.time()
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
        task = self._runs[batch.id] = asyncio.create_task(run.run())
        self._count()
        task.add_done_callback(lambda done: self._ended(batch, done))

    def _ended(self, batch: StoredBatch, task: asyncio.Task[BatchStatus]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            # It stays in the list, so that it is tried again by the next process, not by this one.
            log.error("batch %s broke off", batch.id, exc_info=error)
        else:
            del self._runs[batch.id]
            self._just_ended.add(batch.id)
            self.observer.batch_ended(task.result(), batch.counts.completed, batch.counts.failed)
            log.info(
                "batch %s %s: %d of %d lines, %d failed",
                *(batch.id, batch.status, batch.counts.completed),
                *(batch.counts.total, batch.counts.failed),
            )
        self._count()

    def _count(self) -> None:
        self.observer.batches_running(sum(not task.done() for task in self._runs.values()))


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
