"""The queue in front of the engine, for coroutines: wait for a slot, and give it back.

``admission.scheduler.Scheduler`` decides; here are only the clock and the futures. Belongs to one
event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from extracot_server.admission.keys import Principal
from extracot_server.admission.scheduler import Permit, Refusal, RefusedError, Scheduler, Ticket


class RequestQueue:
    """Admits requests in the scheduler's order."""

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float] = monotonic) -> None:
        self.scheduler = scheduler
        self._clock = clock
        self._waiting: dict[Ticket, asyncio.Future[RefusedError | None]] = {}

    async def enter(self, principal: Principal, permit: Permit | None = None) -> Ticket:
        """Wait for a slot. The ticket is to be given back with :meth:`leave`.

        ``permit`` is for the limits of its key, if the request has it already.

        Raises :class:`RefusedError`, at once or while waiting. Cancelling it leaves the queue.
        """
        ticket, displaced = self.scheduler.offer(principal, self._clock(), permit)
        if displaced is not None:
            wait = self.scheduler.queue_seconds()
            self._refuse(displaced, RefusedError(Refusal.QUEUE_FULL, wait))
        if ticket.running:
            return ticket
        admitted = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            refused = await admitted
        except BaseException:
            self.leave(ticket)
            raise
        finally:
            del self._waiting[ticket]
        if refused is not None:
            raise refused
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The request has ended: the next ones may run."""
        for started in self.scheduler.leave(ticket, self._clock()):
            admitted = self._waiting[started]
            if not admitted.done():  # a cancelled one gives its slot back when it wakes
                admitted.set_result(None)

    def close(self) -> None:
        """The server stops: refuse all that wait and all that come."""
        for ticket in self.scheduler.close():
            self._refuse(ticket, RefusedError(Refusal.STOPPING))

    def _refuse(self, ticket: Ticket, error: RefusedError) -> None:
        admitted = self._waiting[ticket]
        if not admitted.done():
            admitted.set_result(error)
