"""Reasoning that stands in the content, its tags around it, for clients that read nothing else.

Turns one request's events into those of a reply whose answer begins with the block, so that every
API writes it whole and streamed alike. What is counted has been counted before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from extracot.reasoning import Part, ThinkTags
from extracot_server.generation.events import CallDelta, ChoiceDone, Delta, Event, Finished


async def in_content(
    events: AsyncGenerator[Event, None], tags: ThinkTags
) -> AsyncGenerator[Event, None]:
    """The events, reasoning as text of the answer. Closing this closes them."""
    open_blocks: set[int] = set()
    try:
        async for event in events:
            if not isinstance(event, Finished) and (text := _tag(event, tags, open_blocks)):
                yield Delta(event.index, Part.ANSWER, text)
            if isinstance(event, Delta) and event.part is Part.REASONING:
                event = Delta(event.index, Part.ANSWER, event.text)
            yield event
    finally:
        await events.aclose()


def _tag(
    event: Delta | CallDelta | ChoiceDone, tags: ThinkTags, open_blocks: set[int]
) -> str | None:
    """What stands before an event's own text: a tag, where a block begins or has ended.

    The block of a reply that broke off in it stays open.
    """
    index = event.index
    if isinstance(event, Delta) and event.part is Part.REASONING:
        if index in open_blocks or not event.text:
            return None
        open_blocks.add(index)
        return f"{tags.start}\n"
    if index not in open_blocks or (isinstance(event, Delta) and not event.text):
        return None
    open_blocks.discard(index)
    if isinstance(event, ChoiceDone):
        return None if event.report.unclosed else f"\n{tags.end}"
    return f"\n{tags.end}\n\n"
