"""One batch from its first line to its files, within an event loop. Resumes what was begun.

Lines run a few at a time, and of the keys that wait for a place each has the next in turn. What is
refused for the moment (429, 503) waits and is sent again, until the batch expires; what fails,
fails alone. A disk that is full, and a key that may keep no more, hold the batch up and lose no
reply. Knows neither HTTP nor the engine: ``send`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from extracot_server.admission.keys import Principal
from extracot_server.admission.queue import RequestQueue
from extracot_server.admission.scheduler import Ticket
from extracot_server.batches.lines import Line, Overview, look_over, read_lines
from extracot_server.batches.records import BatchStatus, Fault, StoredBatch
from extracot_server.batches.results import Results, Sent
from extracot_server.batches.room import Room
from extracot_server.batches.store import BatchStore, KeyFolder

log = logging.getLogger("extracot.batches")
_LATER = frozenset({429, 503})
_MOST_LOST = 2
_LONGEST_WAIT = 60.0
_LOOK_SECONDS = 1.0
_ROOM_SECONDS = 1.0  # for which a measure of the key's room is good enough
_EXPIRED = "This request could not be executed before the completion window expired."
_BROKE_OFF = "The server failed at this batch: its log says why. What was done is kept."

Send = Callable[[str, str, str, dict[str, Any]], Awaitable[Sent]]
"""Owner, endpoint, request id and body of a line, to what the endpoint answers."""


@dataclass(slots=True)
class Pauses:
    """How long things wait, in seconds; tests make them short."""

    look: float = _LOOK_SECONDS
    longest: float = _LONGEST_WAIT
    disk: float = 5.0


@dataclass(slots=True)
class BatchRun:
    """A batch that runs. All batches share ``slots``, and ``suspects``: a line with which the
    engine failed runs again as the only such line, so that one that kills engines takes no other
    with it time after time."""

    store: BatchStore
    owner: str
    batch: StoredBatch
    send: Send
    slots: RequestQueue
    suspects: asyncio.Lock
    max_body: int
    pauses: Pauses = field(default_factory=Pauses)
    _results: Results | None = None
    _saved: str = ""
    _begun: int = 0
    _waiting: int = 0
    _given_up: Fault | None = None

    @property
    def _folder(self) -> KeyFolder:
        return self.store.of(self.owner)

    @property
    def waits(self) -> bool:
        """Whether all lines that have begun wait for room that the key may use."""
        return 0 < self._begun == self._waiting and self._given_up is None

    def give_up(self, room: Room) -> None:
        """End it as failed with what it has, for want of this room."""
        text = (
            f"The batch cannot go on: {room.taken()}, and nothing makes room but the end of a "
            "batch. Its results so far are kept."
        )
        self._given_up = Fault(code="storage_limit_exceeded", message=text)

    async def run(self) -> BatchStatus:
        """Run it to its end; gives the status it ended with."""
        batch, folder = self.batch, self._folder
        output, errors = (
            folder.files / f"{one}.part" for one in (batch.output_file_id, batch.error_file_id)
        )
        written = partial(self.store.usage.add, folder.path)
        results = Results(batch.id, output, errors, written)
        if batch.ending is not None:
            return await self._finish(results, batch.ending)
        try:
            return await self._through(results)
        except Exception as error:
            if batch.ending is not None or _of_the_disk(error):
                raise  # the next process goes on with it
            # A bug of ours: the client is told, and keeps what has been done.
            log.exception("batch %s broke off", batch.id)
            batch.faults = [Fault(code="internal_error", message=_BROKE_OFF)]
            return await self._finish(results, "failed")

    async def _through(self, results: Results) -> BatchStatus:
        batch, folder = self.batch, self._folder
        data = folder.data_path(batch.input_file_id)
        limits = (self.max_body, self.store.settings.batch_max_lines)
        try:
            overview = await asyncio.to_thread(look_over, data, batch.endpoint, *limits)
        except FileNotFoundError:
            overview = None
        faults = _whole_faults(overview, limits[1])
        total = batch.counts.total if overview is None or faults else overview.total
        try:
            # Before a restart there may have been other limits, and lines that were answered.
            await asyncio.to_thread(results.recover, total)
            self._results = results
            if overview is None or faults:
                batch.faults = faults
                return await self._finish(results, "failed")
            self._note("in_progress")
            await self._save()
            return await self._finish(results, await self._run_lines(results, data, overview))
        finally:
            results.close()

    async def _run_lines(self, results: Results, data: Path, overview: Overview) -> BatchStatus:
        def left() -> Iterator[Line]:
            lines = read_lines(data, self.batch.endpoint, self.max_body, overview.repeated)
            return (line for line in lines if line.number not in results.done)

        count = overview.total - len(results.done)
        feeding = asyncio.create_task(self._feed(results, left(), count))
        status: BatchStatus | None = None
        try:
            while status is None:
                if self._folder.cancel_path(self.batch).exists():
                    status = "cancelled"
                elif self.store.clock() >= self.batch.deadline:
                    status = "expired"
                elif self._given_up is not None:
                    status = "failed"
                elif feeding.done():
                    status = "completed"
                else:
                    await self._save()
                    await asyncio.wait({feeding}, timeout=self.pauses.look)
        finally:
            feeding.cancel()
            outcome = (await asyncio.gather(feeding, return_exceptions=True))[0]
        if isinstance(outcome, Exception):
            raise outcome

        def expire() -> None:
            for line in left():
                if (room := self._folder.room(_ROOM_SECONDS)).left <= 0:
                    self.batch.faults = [_no_room("Some lines have no result", room)]
                    return
                results.add_error(line, "batch_expired", _EXPIRED)

        given_up = self._given_up if status == "failed" else None
        self.batch.faults = [] if given_up is None else [given_up]
        if status == "expired":
            await self._write(expire, threaded=True)
        return status

    async def _feed(self, results: Results, lines: Iterator[Line], count: int) -> None:
        """Start so many lines, each read when it has a place, and wait for all of them."""
        own = asyncio.Semaphore(self.store.settings.batch_concurrency)

        def ended(place: Ticket) -> None:
            self.slots.leave(place)  # of a line that was cancelled before it began
            self._begun -= 1
            own.release()

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                await own.acquire()
                self._begun += 1
                place = await self._place()
                try:
                    line = await asyncio.to_thread(next, lines, None)
                except BaseException:
                    self.slots.leave(place)
                    raise
                if line is None:  # somebody has cut the file off meanwhile
                    ended(place)
                    break
                task = group.create_task(self._run_line(results, line, place))
                task.add_done_callback(lambda _, place=place: ended(place))  # type: ignore[misc]

    async def _run_line(self, results: Results, line: Line, first: Ticket) -> None:
        """Run a line that has its first place, and may need others."""
        if line.fault is not None:
            self.slots.leave(first)
            await self._write(results.add_error, line, line.fault.code, line.fault.message)
            return
        place: Ticket | None = first
        lost = 0
        while True:
            async with contextlib.AsyncExitStack() as held:
                place = place or await self._place(held if lost else None)
                held.callback(self.slots.leave, place)
                call = (self.owner, self.batch.endpoint, results.id_of(line), line.body)
                sent = await self.send(*call)
            lost += sent.lost
            if lost > _MOST_LOST or not (sent.lost or sent.status in _LATER):
                break
            # The slot is free meanwhile: one key's quota holds up no other key's batch.
            place = None
            await asyncio.sleep(min(sent.retry_after or 1, self.pauses.longest))
        await self._write(results.add, line, sent)

    async def _place(self, suspect: contextlib.AsyncExitStack | None = None) -> Ticket:
        """Wait for room, and for a place to run a line.

        A suspect's is the only one until it is left, but holds up no others while it has no room.
        """
        while True:
            await self._wait_for_room()
            async with contextlib.AsyncExitStack() as held:
                if suspect is not None:
                    await held.enter_async_context(self.suspects)
                place = await self.slots.enter(Principal(self.owner, in_batch=True))
                held.callback(self.slots.leave, place)
                if await self._has_room():  # none has taken it while this one waited
                    kept = held.pop_all()
                    if suspect is not None:
                        suspect.push_async_exit(kept)
                    return place

    async def _wait_for_room(self) -> None:
        """Until the key may keep more; those lines that run meanwhile may go beyond."""
        self._waiting += 1
        try:
            while not await self._has_room():
                await asyncio.sleep(self.pauses.look)
        finally:
            self._waiting -= 1

    async def _has_room(self) -> bool:
        """Whether another line may begin; if not, the batch says why."""
        try:
            await asyncio.to_thread(self._folder.room, _ROOM_SECONDS)
            room = self._folder.room(math.inf)  # with what was written meanwhile
        except OSError:  # it cannot be read: whoever writes waits
            return True
        faults = [] if room.left > 0 else [_no_room("The batch waits", room)]
        if faults and not self.batch.faults:
            log.warning("batch %s waits: %s", self.batch.id, room.taken())
        self.batch.faults = faults
        return not faults

    async def _write(
        self, write: Callable[..., object], *what: object, threaded: bool = False
    ) -> None:
        """Write something; while the disk is full, try again."""
        while True:
            try:
                if threaded:  # what is brought to the disk takes its time
                    await asyncio.to_thread(write, *what)
                else:
                    write(*what)
                return
            except OSError as error:
                log.warning("batch %s waits: it cannot be written: %s", self.batch.id, error)
                await asyncio.sleep(self.pauses.disk)

    async def _finish(self, results: Results, status: BatchStatus) -> BatchStatus:
        """Make files of the results, then end. Any step may be done again after a crash."""
        batch, folder = self.batch, self._folder
        if batch.ending is None:
            batch.ending = status
            if status == "completed":
                self._note("finalizing")
            await self._save()
        await self._write(results.close, threaded=True)
        keep = batch.output_keep_seconds
        for path, file_id, kind in (
            (results.output_path, batch.output_file_id, "output"),
            (results.errors_path, batch.error_file_id, "error"),
        ):
            if not path.exists() and not folder.data_path(file_id).exists():
                continue
            name = f"{batch.id}_{kind}.jsonl"
            what = (path, file_id, name, "batch_output", keep)
            await self._write(folder.adopt, *what, threaded=True)
            if kind == "output":
                batch.has_output = True
            else:
                batch.has_errors = True
        return await self._end(status)

    async def _end(self, status: BatchStatus) -> BatchStatus:
        batch, now = self.batch, int(self.store.clock())
        if status == "cancelled":
            asked = self._folder.cancel_path(batch)
            batch.times.setdefault("cancelling", int(asked.stat().st_mtime))
        batch.expires_at = now + self.store.keep_seconds
        self._note(status)
        await self._save()
        return status

    def _note(self, status: BatchStatus) -> None:
        self.batch.reached(status, int(self.store.clock()))

    async def _save(self) -> None:
        """Keep what has changed."""
        if self._results is not None:
            self.batch.counts = self._results.counts.model_copy()
            self.batch.tokens = self._results.tokens.model_copy()
        if (now := self.batch.model_dump_json()) != self._saved:
            await self._write(self.batch.save, self._folder.batches, threaded=True)
            self._saved = now


def _no_room(what: str, room: Room) -> Fault:
    text = f"{what}: {room.taken()}; delete some files, or cancel batches and delete their results."
    return Fault(code="storage_limit_exceeded", message=text)


def _of_the_disk(error: Exception) -> bool:
    """Whether the folder could not be read or written, which passes."""
    if isinstance(error, ExceptionGroup):
        return error.subgroup(OSError) is not None
    return isinstance(error, OSError)


def _whole_faults(overview: Overview | None, max_lines: int) -> list[Fault]:
    """Why nothing of a batch can run; ``None`` is no file."""
    if overview is None:
        return [Fault(code="file_not_found", message="The input file has gone.")]
    if not overview.total:
        fault = Fault(code="empty_file", message="The input file holds no request.")
    elif overview.total > max_lines:
        text = f"The input file has more than {max_lines} requests."
        fault = Fault(code="too_many_requests_in_batch", message=text)
    elif overview.faulty == overview.total:
        fault = Fault(code="no_valid_request", message="No line of the input file is a request.")
    else:
        return []
    return [fault, *overview.faults]
