"""The server of the soak: the scripted engine in a process of its own that tells what it holds.

Prints its URL, then one line of JSON for each line it reads. Run by :mod:`tests.server.soak`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import sys
from collections import deque
from pathlib import Path
from typing import Any

from tests.server.live import Live, serve

MAX_RUNNING, MAX_QUEUED = 24, 8


async def holdings(live: Live) -> dict[str, Any]:
    """What is held now; all of it should be the same between two bursts of requests."""
    (running,) = live.app.state.extracot.engines
    scheduler = running.queue.scheduler
    # Timers that were cancelled stay in the loop, each with its request, until they are many.
    for _ in range(1_000):
        live.loop.call_later(3600, int).cancel()
    await asyncio.sleep(0)
    gc.collect()
    status = Path("/proc/self/status").read_text()
    resident = re.search(r"VmRSS:\s*(\d+) kB", status)
    assert resident is not None
    return {
        "in_engine": await live.engine.in_flight(),
        "running": scheduler.running,
        "queued": scheduler.queued,
        "connections": len(live.server.server_state.connections),
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")),
        "objects": len(gc.get_objects()),
        "resident_kib": int(resident[1]),
        "ready": running.up,
    }


def main() -> None:
    """Serve until standard input ends."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each client that has left
    limits = {"max_running": MAX_RUNNING, "max_queued": MAX_QUEUED, "max_choices": 4}
    with serve(None, log_level="error", **limits) as live:
        live.http.close()
        live.engine.requests = deque(maxlen=16)  # it keeps the last ones for tests to look at
        print(live.url, flush=True)
        for _ in sys.stdin:
            asked = asyncio.run_coroutine_threadsafe(holdings(live), live.loop)
            print(json.dumps(asked.result(60)), flush=True)


if __name__ == "__main__":
    main()
