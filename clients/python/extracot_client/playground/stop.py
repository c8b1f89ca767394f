"""The running tasks of the playground, per session and tab, so that a stop button can end them.

A run ends itself: the button only cancels the task that asks, and the run's own generator then
shows that it was stopped. Were the generator cancelled from outside (Gradio's ``cancels``), one of
its views could still be on its way and be drawn over the last word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

V = TypeVar("V")


class Runs(Generic[V]):
    """Runs by key; a key has one run at a time. All calls belong to one event loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def stop(self, key: str) -> None:
        """End the run of ``key``, if there is one."""
        if (task := self._tasks.get(key)) is not None:
            task.cancel()

    async def views(
        self, key: str, source: AsyncGenerator[V, None], stopped: Callable[[V], V]
    ) -> AsyncGenerator[V, None]:
        """The views of ``source`` (each whole, so one that is overtaken may be left out).

        After :meth:`stop` the last is ``stopped(last view)``. Closing this ends the run, too.
        """
        latest: list[V] = []
        news = asyncio.Event()

        async def read() -> None:
            async with aclosing(source) as views:
                async for view in views:
                    latest[:] = [view]
                    news.set()

        task = asyncio.create_task(read())
        task.add_done_callback(lambda _: news.set())
        self._tasks[key] = task
        last: V | None = None
        try:
            while not task.done() or latest:
                await news.wait()
                news.clear()
                if latest:
                    last = latest.pop()
                    yield last
            if not task.cancelled():
                task.result()
            elif last is not None:
                yield stopped(last)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._tasks.get(key) is task:
                del self._tasks[key]
