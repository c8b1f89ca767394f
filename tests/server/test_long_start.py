"""What a person sees while a start takes long."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from extracot_server.cli import remind


@pytest.mark.anyio
async def test_a_long_start_says_from_time_to_time_that_it_goes_on() -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(remind(lines.put_nowait, 0.001))
    first, second = await lines.get(), await lines.get()
    assert first.startswith("still loading after 0 s") and "the first start" in first
    assert second == "still loading after 0 s"  # why is said once
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
