"""Which requests run, wait or are refused: the queue in front of the engine, as pure state.

Lower priority numbers go first; keys of one priority are served round-robin, and one key's
requests in order. Time is an argument, so nothing here sleeps, and ``admission.queue`` brings
asyncio to it. Not thread-safe.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from extracot.errors import ExtracotError
from extracot_server.admission.keys import Principal

WINDOW_SECONDS = 60.0
_LONGEST_RETRY = 60
_SMOOTHING = 0.1


class Refusal(StrEnum):
    """Why a request is not let in; also its ``code`` and its label in metrics."""

    QUEUE_FULL = "queue_full"
    RATE = "rate_limit_exceeded"
    CONCURRENCY = "concurrency"
    STOPPING = "server_stopping"
    QUOTA = "insufficient_quota"
    NO_STORE = "usage_store_unavailable"


_MESSAGES = {
    Refusal.QUEUE_FULL: "The server is busy and its queue is full; try again later.",
    Refusal.RATE: "Rate limit reached for this API key: {limit} requests a minute.",
    Refusal.CONCURRENCY: "This API key has {limit} requests running or waiting, and may not have "
    "more at once.",
    Refusal.STOPPING: "The server is stopping; try again shortly.",
    Refusal.QUOTA: "A quota of this API key is used up.",
    Refusal.NO_STORE: "Quotas cannot be checked now; try again shortly.",
}


class RefusedError(ExtracotError):
    """A request is not let in. ``retry_after`` are whole seconds, 1 or more."""

    def __init__(self, reason: Refusal, retry_after: int = 1, limit: int = 0) -> None:
        super().__init__(_MESSAGES[reason].format(limit=limit))
        self.reason = reason
        self.retry_after = retry_after


@dataclass(eq=False, slots=True)
class Ticket:
    """One request from the moment it is let in; ``running`` once it has a slot."""

    principal: Principal
    since: float
    running: bool = False
    gone: bool = False


@dataclass(slots=True)
class RateLimits:
    """What each key has now and has had in the last minute, on all engines together."""

    held: dict[str, int] = field(default_factory=dict)
    starts: dict[str, deque[float]] = field(default_factory=dict)


class Scheduler:
    """The state of one engine's queue. Times are seconds of any one clock that does not go back."""

    def __init__(
        self,
        max_running: int | None = None,
        max_queued: int = 0,
        rate_limits: RateLimits | None = None,
    ) -> None:
        """``max_running`` requests at once (``None``: all), ``max_queued`` more may wait.

        Queues with the same ``rate_limits`` share the limits of a key.
        """
        self.max_running = max_running
        self.max_queued = max_queued
        self.running = 0
        self.queued = 0
        # Priority -> key -> its requests; the first key of a priority is the next.
        self._waiting: dict[int, dict[str, deque[Ticket]]] = {}
        shared = rate_limits or RateLimits()
        self._held, self._starts = shared.held, shared.starts
        self._mean_seconds = 1.0
        self._closed = False

    def offer(self, principal: Principal, now: float) -> tuple[Ticket, Ticket | None]:
        """Let a request in, to run or to wait; raises :class:`RefusedError`.

        The second ticket, if any, has lost its place in the queue to the first and is to be refused
        with :attr:`Refusal.QUEUE_FULL`: it waited with a lower priority, or behind so many others
        of its key that the newcomer's has less.
        """
        self._check_limits(principal, now)
        ticket, displaced = Ticket(principal, now), None
        if self.max_running is None or self.running < self.max_running:
            self._start(ticket, now)
        else:
            if self.queued >= self.max_queued:
                displaced = self._make_room(principal)
            keys = self._waiting.setdefault(principal.priority, {})
            keys.setdefault(principal.name, deque()).append(ticket)
            self.queued += 1
        if not principal.in_batch:
            self._held[principal.name] = self._held.get(principal.name, 0) + 1
        if principal.requests_per_minute is not None:
            self._starts.setdefault(principal.name, deque()).append(now)
        return ticket, displaced

    def leave(self, ticket: Ticket, now: float) -> list[Ticket]:
        """A request has ended, or its client has left the queue. The tickets that run next.

        Idempotent.
        """
        if ticket.gone:
            return []
        if ticket.running:
            self.running -= 1
            self._mean_seconds += _SMOOTHING * (now - ticket.since - self._mean_seconds)
        else:
            self._remove(ticket)
        self._forget(ticket)
        started = []
        while self.queued and (self.max_running is None or self.running < self.max_running):
            started.append(self._next())
            self._start(started[-1], now)
        return started

    def close(self) -> list[Ticket]:
        """Refuse everybody from now on. Returns the waiting tickets, to be refused, too."""
        self._closed = True
        refused = [t for keys in self._waiting.values() for line in keys.values() for t in line]
        for ticket in refused:
            self._forget(ticket)
        self._waiting.clear()
        self.queued = 0
        return refused

    def queue_seconds(self) -> int:
        """About how long the queue takes to empty: whole seconds from 1 to 60."""
        seconds = self._mean_seconds * (self.queued + 1) / (self.max_running or 1)
        return max(1, min(_LONGEST_RETRY, math.ceil(seconds)))

    def _check_limits(self, principal: Principal, now: float) -> None:
        if self._closed:
            raise RefusedError(Refusal.STOPPING)
        limit = principal.concurrency
        if limit is not None and self._held.get(principal.name, 0) >= limit:
            wait = max(1, min(_LONGEST_RETRY, math.ceil(self._mean_seconds)))
            raise RefusedError(Refusal.CONCURRENCY, wait, limit)
        limit = principal.requests_per_minute
        if principal.in_batch:
            return
        if limit is None:
            self._starts.pop(principal.name, None)  # the key had a limit before a reload
            return
        starts = self._starts.get(principal.name, deque())
        while starts and starts[0] <= now - WINDOW_SECONDS:
            starts.popleft()
        if len(starts) >= limit:
            # The one whose leaving the window makes room; a reload may have lowered the limit.
            wait = math.ceil(starts[len(starts) - limit] + WINDOW_SECONDS - now)
            raise RefusedError(Refusal.RATE, max(1, wait), limit)

    def _make_room(self, principal: Principal) -> Ticket:
        """Displace the request with the least claim; :class:`RefusedError` if there is none."""
        worst = max(self._waiting, default=principal.priority)
        keys = self._waiting.get(worst, {})
        longest = max(keys.values(), key=len, default=deque[Ticket]())
        own = len(keys.get(principal.name, ()))
        outranked = bool(longest) and worst > principal.priority
        unfair = worst == principal.priority and len(longest) > own + 1
        if not outranked and not unfair:
            raise RefusedError(Refusal.QUEUE_FULL, self.queue_seconds())
        ticket = longest[-1]
        self._remove(ticket)
        self._forget(ticket)
        return ticket

    def _start(self, ticket: Ticket, now: float) -> None:
        ticket.running, ticket.since = True, now
        self.running += 1

    def _next(self) -> Ticket:
        """Take the next ticket; its key goes to the end of its priority."""
        keys = self._waiting[min(self._waiting)]
        name = next(iter(keys))
        keys[name] = keys.pop(name)
        ticket = keys[name][0]
        self._remove(ticket)
        return ticket

    def _remove(self, ticket: Ticket) -> None:
        priority, name = ticket.principal.priority, ticket.principal.name
        keys = self._waiting[priority]
        keys[name].remove(ticket)
        if not keys[name]:
            del keys[name]
        if not keys:
            del self._waiting[priority]
        self.queued -= 1

    def _forget(self, ticket: Ticket) -> None:
        ticket.gone = True
        if ticket.principal.in_batch:
            return
        name = ticket.principal.name
        self._held[name] -= 1
        if not self._held[name]:
            del self._held[name]
