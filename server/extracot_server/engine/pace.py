"""Whether the event loop keeps up, and how long a reader of a reply waits for more where it does
not.

Where there is more to do than a process can do, each piece of a reply comes later than the one
before. A reader that then leaves tokens where they are for a moment gets several at once, and what
an event costs is paid once for them. Knows loops and clocks, and nothing of replies.
"""

from __future__ import annotations

import asyncio
import resource
from collections import deque

BEAT_SECONDS = 0.02
BEATS = 5
"""So many in a row without a pause are a loop that falls behind; fewer are one long task."""
_LATE = 0.01
_FIRST = 0.005


class Pace:
    """How the loop of this process does, while replies run.

    ``hold`` is how long, in seconds, a reader that has just got something should wait before it
    looks for more: 0 while the loop keeps up, never more than ``most_seconds``.
    """

    def __init__(self, most_seconds: float = 0.0) -> None:
        self._most = most_seconds
        self.hold = 0.0
        self._behind: deque[bool] = deque(maxlen=BEATS)
        self._watchers = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """A reply begins: the loop is looked at until as many have ended."""
        self._watchers += 1
        if self._most and self._timer is None:
            self._wait(asyncio.get_running_loop())

    def unwatch(self) -> None:
        """A reply has ended."""
        self._watchers -= 1
        if not self._watchers and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.hold = 0.0
            self._behind.clear()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        now, pauses = loop.time(), _pauses()
        self._timer = loop.call_later(BEAT_SECONDS, self._beat, loop, now, pauses)

    def _beat(self, loop: asyncio.AbstractEventLoop, began: float, pauses: int) -> None:
        self.observe(loop.time() - began - BEAT_SECONDS, paused=_pauses() > pauses)
        self._wait(loop)

    def observe(self, late: float, *, paused: bool) -> None:
        """A beat came ``late`` seconds late; ``paused``: this thread has waited for something.

        A loop that never waits has more to do than it can. Where other threads make it wait, it is
        late all the time. The hold doubles while it falls behind and halves once it does not.
        """
        behind = not paused or late >= _LATE
        self._behind.append(behind)
        if not behind:
            self.hold = self.hold / 2 if self.hold > _FIRST else 0.0
        elif len(self._behind) == BEATS and all(self._behind):
            self.hold = min(self._most, max(2 * self.hold, _FIRST))


def _pauses() -> int:
    """How often this thread has given up the processor by itself: nothing was there to be done."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
