"""Freezes long-lived objects, so that the garbage collector does not scan them while serving.

A full collection looks at every object there is. With vLLM and torch imported that takes most of a
second, in which no stream gets a token, and a burst of requests is what sets one off. Objects that
are frozen are left out of it; they are still freed when nothing refers to them.
"""

from __future__ import annotations

import atexit
import gc

_YOUNG = 20_000
"""So many new objects set off a search of the new ones, which are those of running replies:
Python's 700 are reached many times a second, and hardly any of them is in a cycle."""


def freeze() -> None:
    """All that is alive now stays: leave it out of collections from here on, to the process's end.

    Then it is searched as ever, or libraries that count what is left would say that they leak.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    atexit.register(gc.unfreeze)


def frozen() -> bool:
    """Whether objects are frozen: then this process is a server's, and ends when it has stopped."""
    return gc.get_freeze_count() > 0


def reclaim() -> None:
    """Search everything once, the frozen as well, for what is no longer in use; then as before."""
    again = frozen()
    gc.unfreeze()
    gc.collect()
    if again:
        gc.freeze()
