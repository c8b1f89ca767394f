"""Several choices as one stream: what each brings, as it comes. Knows nothing of reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from extracot_server.generation.choice import ChoiceStream
from extracot_server.generation.events import ChoiceEnded, Delta


def merge(choices: Sequence[ChoiceStream]) -> AsyncGenerator[Delta | ChoiceEnded, None]:
    """Deltas of all choices as they come, and a :class:`ChoiceEnded` for each that is over."""
    return choices[0].events() if len(choices) == 1 else _together(choices)


async def _together(choices: Sequence[ChoiceStream]) -> AsyncGenerator[Delta | ChoiceEnded, None]:
    queue: asyncio.Queue[Delta | ChoiceEnded | Exception] = asyncio.Queue(maxsize=64)
    tasks = [asyncio.create_task(_pump(choice, queue)) for choice in choices]
    try:
        ended = 0
        while ended < len(choices):
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            ended += isinstance(item, ChoiceEnded)
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    choice: ChoiceStream, queue: asyncio.Queue[Delta | ChoiceEnded | Exception]
) -> None:
    stream = choice.events()
    try:
        async for item in stream:
            await queue.put(item)
    except Exception as error:  # whatever it is, it is raised where the events are read
        await queue.put(error)
    finally:
        await stream.aclose()
