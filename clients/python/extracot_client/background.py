"""Runs an async generator on a thread of its own, so that plain code can iterate over it.

A thread, not a loop driven in place: the caller may itself be inside an event loop (a notebook).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, suppress
from typing import TypeVar

T = TypeVar("T")


def in_background(make: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
    """The items of ``make()``, in order; its error is raised here. Closing cancels and waits."""
    # Each item in a tuple of one; last the error it ended with, or None.
    items: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def produce() -> None:
        async with aclosing(make()) as source:
            async for value in source:
                items.put((value,))

    async def main() -> None:
        task = asyncio.ensure_future(produce())
        running.append((asyncio.get_running_loop(), task))
        ready.set()
        await asyncio.wait([task])
        items.put(None if task.cancelled() else task.exception())

    def work() -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(main())
        except BaseException as error:  # whatever it is, somebody waits for it in another thread
            items.put(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="extracot-sweep", daemon=True)
    thread.start()
    try:
        while isinstance(item := items.get(), tuple):
            yield item[0]
        if item is not None:
            raise item
    finally:
        ready.wait()
        for loop, task in running:  # None where no loop could be started.
            with suppress(RuntimeError):  # It may close by itself just now.
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
