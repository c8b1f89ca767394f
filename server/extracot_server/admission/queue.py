"""The queue in front of the engine, for coroutines: wait for a turn, and give it back.

What is decided is decided by ``admission.scheduler.Scheduler``; here are only the
clock and the futures. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from extracot_server.admission.keys import Principal
from extracot_server.admission.scheduler import Refusal, RefusedError, Scheduler, Ticket


class RequestQueue:
    """Lets requests through as the scheduler says."""

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float] = monotonic) -> None:
        self.scheduler = scheduler
        self._clock = clock
        self._turns: dict[Ticket, asyncio.Future[RefusedError | None]] = {}

    async def enter(self, principal: Principal) -> Ticket:
        """Wait for a turn. The ticket is to be given back with :meth:`leave`.

        Raises :class:`RefusedError`, at once or while waiting. Cancelling it leaves the queue.
        """
        ticket, displaced = self.scheduler.offer(principal, self._clock())
        if displaced is not None:
            self._refuse(displaced, RefusedError(Refusal.QUEUE_FULL, self._queue_seconds()))
        if ticket.running:
            return ticket
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        try:
            refused = await turn
        except BaseException:
            self.leave(ticket)
            raise
        finally:
            del self._turns[ticket]
        if refused is not None:
            raise refused
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The request has ended: whoever is next may run."""
        for started in self.scheduler.leave(ticket, self._clock()):
            turn = self._turns[started]
            if not turn.done():  # a cancelled one passes its turn on when it wakes
                turn.set_result(None)

    def close(self) -> None:
        """The server stops: refuse whoever waits and whoever comes."""
        for ticket in self.scheduler.close():
            self._refuse(ticket, RefusedError(Refusal.STOPPING))

    def _refuse(self, ticket: Ticket, error: RefusedError) -> None:
        turn = self._turns[ticket]
        if not turn.done():
            turn.set_result(error)

    def _queue_seconds(self) -> int:
        return self.scheduler.queue_seconds()
