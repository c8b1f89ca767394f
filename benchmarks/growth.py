"""How cost grows: with open streams, with the length of prompts, with the levels of a card.

    python -m benchmarks.growth [--quick]

CPU time of this process on the scripted engine (no model), so what is measured is ours alone. Every
row tells its cost per unit and that against the row before: 1.0 is linear, above is worse. Prints
Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.harness import about_this_machine, table
from extracot.card import BudgetCard
from extracot_server.app import create_app
from extracot_server.budget.resolve import BudgetPolicy, BudgetSources, resolve_budget
from extracot_server.budget.values import parse_budget
from extracot_server.config.settings import Settings
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine, scripted_card
from extracot_server.generation.request import ChatRequest

CHAT = "/v1/chat/completions"
CONTEXT = 32768


def resident_kib() -> int:
    """Memory of this process."""
    found = re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


async def call(app: Any, body: bytes) -> int:
    """One request through the whole app, without sockets; the number of messages sent."""
    bodies = iter([{"type": "http.request", "body": body, "more_body": False}])
    never = asyncio.Event()
    count = 0

    async def receive() -> dict[str, Any]:
        for message in bodies:
            return message
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        nonlocal count
        count += 1

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"bench"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, send)
    return count


async def open_streams(sizes: Sequence[int], tokens: int) -> list[tuple[int, float, float]]:
    """(streams, CPU microseconds a token, KiB a stream) for each number of open streams."""
    engine = ScriptedEngine(ScriptedBehaviour(token_interval_seconds=0.005))
    app = create_app(Settings(engine="scripted", log_level="error"), engine=engine)
    message = {"role": "user", "content": "What is 12 * 3 + 4?"}
    body = {"messages": [message], "stream": True, "max_tokens": tokens, "ignore_eos": True}
    content, found = json.dumps(body).encode(), []
    async with app.router.lifespan_context(app):
        for size in sizes:
            await asyncio.gather(*(call(app, content) for _ in range(min(size, 20))))
            gc.collect()
            idle, began = resident_kib(), process_time()
            running = asyncio.gather(*(call(app, content) for _ in range(size)))
            await asyncio.sleep(0.005 * tokens / 2)
            held = resident_kib() - idle
            await running
            spent = process_time() - began
            found.append((size, 1e6 * spent / (size * tokens), held / size))
    return found


def repeat(work: Callable[[], object], times: int) -> float:
    """CPU seconds of one call."""
    work()
    began = process_time()
    for _ in range(times):
        work()
    return (process_time() - began) / times


def prompts(lengths: Sequence[int], times: int) -> list[tuple[int, float]]:
    """(prompt tokens, CPU microseconds) of preparing a request, budget to token ids."""
    engine = ScriptedEngine(ScriptedBehaviour(max_model_len=CONTEXT))
    app = create_app(Settings(engine="scripted", log_level="error"), engine=engine)

    async def measured() -> list[tuple[int, float]]:
        found = []
        async with app.router.lifespan_context(app):
            (service,) = app.state.extracot.services.values()
            for length in lengths:
                text = ("First we add the number of apples. " * CONTEXT)[: length * 4]
                request = request_of(text)
                size = len(service.prepare(request).rendered.prompt_ids)
                found.append((size, 1e6 * repeat(lambda r=request: service.prepare(r), times)))
        return found

    return asyncio.run(measured())


def request_of(text: str) -> ChatRequest:
    """A budgeted request with this prompt."""
    from extracot.prompt import Message

    return ChatRequest("bench", (Message("user", text),), BudgetSources(parse_budget(0.4)))


def cards(levels: Sequence[int], times: int) -> list[tuple[int, float]]:
    """(levels, CPU microseconds) of resolving a ratio on a card with so many levels."""
    found, asked = [], BudgetSources(parse_budget(0.37))
    for count in levels:
        card, policy = card_of(count), BudgetPolicy()
        found.append(
            (
                count,
                1e6
                * repeat(
                    lambda c=card, p=policy: resolve_budget(asked, c, p),
                    times,
                ),
            )
        )
    return found


def card_of(count: int) -> BudgetCard:
    """The scripted card with its first level repeated at ratios from 1/count to 1."""
    data = json.loads(scripted_card().model_dump_json())
    first = data["levels"][0]
    data["levels"] = []
    for number in range(1, count + 1):
        ratio = round(number / count, 4)
        realised = {"mean": ratio, "p10": ratio * 0.9, "p90": ratio * 1.1}
        name = f"<COMP_{ratio:g}>"
        level = {"name": f"{ratio:g}", "token": name, "token_id": 1000 + number, "ratio": ratio}
        data["levels"].append({**first, **level, "realised": realised})
    return BudgetCard.model_validate(data)


def growth(rows: Sequence[tuple[int, float]]) -> list[list[object]]:
    """Each row with its cost per unit, and how cost grew against size since the row before."""
    out: list[list[object]] = []
    for at, (size, cost) in enumerate(rows):
        before = rows[at - 1] if at else None
        factor = "" if before is None else f"{(cost / before[1]) / (size / before[0]):.2f}"
        out.append([size, f"{cost:.1f}", f"{cost / size:.3f}", factor])
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    quick = parser.parse_args(argv).quick
    print(about_this_machine(), end="\n\n")
    sizes = (5, 10) if quick else (10, 100, 1000)
    streams = asyncio.run(open_streams(sizes, 40 if quick else 100))
    rows = [
        [n, f"{cost:.1f}", f"{cost / streams[0][1]:.2f}", f"{kib:.1f}"] for n, cost, kib in streams
    ]
    print(table(("open streams", "CPU µs / token", "against the first", "KiB a stream"), rows))
    lengths = (256, 512) if quick else (512, 1024, 2048, 4096, 8192, 16384, 30000)
    head = ("CPU µs", "per unit", "growth / linear")
    print("\n" + table(("prompt tokens", *head), growth(prompts(lengths, 2 if quick else 10))))
    counts = (5, 10) if quick else (5, 10, 20, 50)
    print("\n" + table(("levels of a card", *head), growth(cards(counts, 20 if quick else 500))))


if __name__ == "__main__":
    main()
