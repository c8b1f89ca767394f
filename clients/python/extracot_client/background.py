"""Runs an async generator on a thread of its own, so that plain code can iterate over it.

A thread, not a loop driven in place: the caller may itself be inside an event loop (a notebook).
Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class _Ended:
    """Put last into the queue: why it ended, ``None`` if it simply did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Item(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


def in_background(make: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
    """The items of ``make()``, in order; its error is raised here. Closing cancels and waits."""
    items: queue.SimpleQueue[_Item[T] | _Ended] = queue.SimpleQueue()
    ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def produce() -> None:
        async with aclosing(make()) as source:
            async for value in source:
                items.put(_Item(value))

    async def main() -> None:
        task = asyncio.ensure_future(produce())
        running.append((asyncio.get_running_loop(), task))
        ready.set()
        await asyncio.wait([task])
        items.put(_Ended(None if task.cancelled() else task.exception()))

    thread = threading.Thread(
        target=asyncio.run, args=(main(),), name="extracot-sweep", daemon=True
    )
    thread.start()
    try:
        while True:
            item = items.get()
            if isinstance(item, _Ended):
                if item.error is not None:
                    raise item.error
                return
            yield item.value
    finally:
        ready.wait()
        loop, task = running[0]
        if thread.is_alive():
            with suppress(RuntimeError):  # The loop may close by itself just now.
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
