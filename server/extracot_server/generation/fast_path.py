"""The fast path: what an engine has for a reply goes to its client in one call.

Between an engine and a connection stand generators, each of which waits for the one below. Where
all of them wait, and nothing has to be decided, waking them costs many times what the token itself
costs. So an engine offers what it has here first; what this does not take goes the usual way, which
is the only one for the first and the last of a reply and for whatever ends a continuation.
Knows no HTTP: it has a sink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from extracot_server.engine.base import GenerationDelta
from extracot_server.generation.continuation import Continuation
from extracot_server.generation.events import Delta, Event


class Sink(Protocol):
    """Where events go without being waited for."""

    def ready(self) -> bool:
        """Whether it takes more now."""

    def emit(self, event: Event) -> None:
        """Take an event, the next of the reply."""


class FastPath:
    """The receiver of one reply's deltas; closed until :meth:`open`, and between continuations."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.show: Callable[[Delta], None] | None = None
        """What the service does with text before it is sent, and the sending."""
        self._open = False
        self._run: Continuation | None = None
        self._ended: list[Delta] | None = None
        self._failure: Exception | None = None
        self._waiting: Delta | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """All events so far have been sent, and whoever sends them waits for the next."""
        self._open = True

    def begin(self, run: Continuation) -> None:
        """What comes from now on belongs to ``run``."""
        self._run, self._ended = run, None

    def end(self) -> None:
        """The continuation is over: all that it has shown is sent."""
        self._run = None
        self.flush()

    def take(self, delta: GenerationDelta, hold: float = 0.0) -> bool:
        """See :class:`~extracot_server.engine.base.Receiver`."""
        run, show = self._run, self.show
        if run is None or show is None or not self._open or self._ended is not None:
            return False
        try:
            if delta.finish_reason is not None or not self.sink.ready():
                self.flush()
                return False
            shown = run.take(delta)
            if run.ended_by is not None:
                self._ended = shown
                self.flush()
                return False
            if hold:
                for one in shown:
                    self._leave(one, hold)
            else:
                if self._waiting is not None:
                    self.flush()
                for one in shown:
                    show(one)
        except Exception as error:  # of whoever calls this, it would end all replies
            self._fail(error)
            return False
        return True

    def taken(self, run: Continuation, delta: GenerationDelta) -> Sequence[Delta]:
        """What a delta that came the usual way shows; raises what taking it has raised before."""
        if self._failure is not None:
            raise self._failure
        self.flush()
        if self._ended is not None and run is self._run:
            return self._ended
        return run.take(delta)

    def flush(self) -> None:
        """Send what was left to come together."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        one, self._waiting = self._waiting, None
        if one is not None and self.show is not None:
            self.show(one)

    def _leave(self, one: Delta, hold: float) -> None:
        """Let text wait, for at most ``hold`` seconds, for more of its part."""
        last = self._waiting
        if last is not None and last.part is one.part:
            last.text += one.text
            last.token_ids += one.token_ids
            last.logprobs += one.logprobs
            return
        self.flush()
        self._waiting = one
        self._timer = asyncio.get_running_loop().call_later(hold, self._flush_late)

    def _flush_late(self) -> None:
        try:
            self.flush()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Let the reader raise it, with the next delta."""
        self._failure = error
        self._ended = []
