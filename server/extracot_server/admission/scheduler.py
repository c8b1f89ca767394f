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
    """Requests that run, wait or are being checked."""
    starts: dict[str, deque[float]] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    """Requests that are being checked: each keeps the room of a start until it is one, or wrong."""
    mean_seconds: float = 1.0
    """About how long a request runs."""

    def take(self, principal: Principal, now: float, *, slot: bool = True) -> Permit:
        """Let a request be looked at; raises :class:`RefusedError` past a limit of its key.

        ``slot``: it will run, so that it counts as one of those that the key may have at once.
        """
        if principal.in_batch:
            return Permit(self, principal.name, held=False, limited=False)
        name, limit = principal.name, principal.concurrency
        if slot and limit is not None and self.held.get(name, 0) >= limit:
            wait = max(1, min(_LONGEST_RETRY, math.ceil(self.mean_seconds)))
            raise RefusedError(Refusal.CONCURRENCY, wait, limit)
        self._check_rate(principal, now)
        limited = principal.requests_per_minute is not None
        if slot:
            self.held[name] = self.held.get(name, 0) + 1
        if limited:
            self.pending[name] = self.pending.get(name, 0) + 1
        return Permit(self, name, held=slot, limited=limited)

    def _check_rate(self, principal: Principal, now: float) -> None:
        limit = principal.requests_per_minute
        if limit is None:
            self.starts.pop(principal.name, None)  # the key had a limit before a reload
            return
        starts = self.starts.get(principal.name, deque())
        while starts and starts[0] <= now - WINDOW_SECONDS:
            starts.popleft()
        over = len(starts) + self.pending.get(principal.name, 0) - limit
        if over >= 0:
            # The one whose leaving the window makes room; a reload may have lowered the limit.
            # Where those that are being checked fill it, one of them may turn out to be wrong.
            wait = starts[over] + WINDOW_SECONDS - now if over < len(starts) else 1
            raise RefusedError(Refusal.RATE, max(1, math.ceil(wait)), limit)

    def forget(self, name: str) -> None:
        """A request of this key runs and waits no more."""
        _less(self.held, name)


@dataclass(eq=False, slots=True)
class Permit:
    """A request whose key's limits let it in, while nothing is known of it yet.

    It becomes a start when the request is let in, or is given back: what is wrong does not count.
    """

    _limits: RateLimits
    _name: str
    held: bool
    limited: bool
    _open: bool = True

    def use(self, now: float) -> None:
        """The request is let in: it counts from now on, and its slot is its ticket's."""
        if self._close() and self.limited:
            self._limits.starts.setdefault(self._name, deque()).append(now)

    def give_back(self) -> None:
        """The request has ended. Of one that was let in this does nothing; idempotent."""
        if self._close() and self.held:
            self._limits.forget(self._name)

    def _close(self) -> bool:
        was, self._open = self._open, False
        if was and self.limited:
            _less(self._limits.pending, self._name)
        return was


def _less(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


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
        self._limits = rate_limits or RateLimits()
        self._mean_seconds = 1.0
        self._closed = False

    def offer(
        self, principal: Principal, now: float, permit: Permit | None = None
    ) -> tuple[Ticket, Ticket | None]:
        """Let a request in, to run or to wait; raises :class:`RefusedError`.

        ``permit`` is one that the request has for its key's limits, else it is taken here. It is
        used, or given back where the request is refused.

        The second ticket, if any, has lost its place in the queue to the first and is to be refused
        with :attr:`Refusal.QUEUE_FULL`: it waited with a lower priority, or behind so many others
        of its key that the newcomer's has less.
        """
        if self._closed:
            raise RefusedError(Refusal.STOPPING)
        permit = permit or self._limits.take(principal, now)
        ticket, displaced = Ticket(principal, now), None
        if self.max_running is None or self.running < self.max_running:
            self._start(ticket, now)
        else:
            if self.queued >= self.max_queued:
                try:
                    displaced = self._make_room(principal)
                except RefusedError:
                    permit.give_back()
                    raise
            keys = self._waiting.setdefault(principal.priority, {})
            keys.setdefault(principal.name, deque()).append(ticket)
            self.queued += 1
        permit.use(now)
        return ticket, displaced

    def leave(self, ticket: Ticket, now: float) -> list[Ticket]:
        """A request has ended, or its client has left the queue. The tickets that run next.

        Idempotent.
        """
        if ticket.gone:
            return []
        if ticket.running:
            self.running -= 1
            took = now - ticket.since
            self._mean_seconds += _SMOOTHING * (took - self._mean_seconds)
            self._limits.mean_seconds += _SMOOTHING * (took - self._limits.mean_seconds)
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
        if not ticket.principal.in_batch:
            self._limits.forget(ticket.principal.name)
