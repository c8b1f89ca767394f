"""The fast path: most tokens take it, and nothing about a reply tells whether one did."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from extracot.reasoning import Part
from extracot_server.engine.base import GenerationDelta
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.generation import fast_path
from extracot_server.generation.events import Delta, Event
from extracot_server.generation.fast_path import FastPath
from extracot_server.runtime.connections import _MOST_WAITING, DirectChunks, Outbox
from tests.server.live import Live, read_chunks, serve
from tests.server.test_streams import REQUESTS

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
MORE: list[dict[str, Any]] = [
    {"budget": {"max_reasoning_tokens": 5}, "stop": ["is", "\n\n"]},
    {"budget": 0.2, "max_tokens": 7},
    {"tools": TOOLS, "budget": 0.4},
    {"tools": TOOLS, "tool_choice": "required"},
    {"separate_reasoning": False},
    {"stream_options": {"include_usage": True}, "include_reasoning": False},
]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[bool]:
    """How many deltas were taken, and how many offered and not."""
    found: Counter[bool] = Counter()
    take = FastPath.take

    def counted(self: FastPath, delta: GenerationDelta, hold: float = 0.0) -> bool:
        yes = take(self, delta, hold)
        found[yes] += 1
        return yes

    monkeypatch.setattr(fast_path.FastPath, "take", counted)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with serve(tool_parser="hermes") as live:
        yield live


def parts(live: Live, **fields: Any) -> list[Any]:
    """Every chunk of a stream, but for what differs between two requests."""
    text = re.sub(r'"id":"call_\w+"', '"id":""', live.post(stream=True, **fields).text)
    return [{k: v for k, v in c.items() if k not in ("id", "created")} for c in read_chunks(text)]


@pytest.mark.parametrize("fields", REQUESTS + MORE, ids=lambda fields: ",".join(fields) or "plain")
def test_a_stream_is_the_same_with_and_without(
    server: Live,
    taken: Counter[bool],
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
) -> None:
    fields = {"seed": 5, **fields}
    fast = parts(server, **fields)
    took = taken[True]
    monkeypatch.setattr(DirectChunks, "ready", lambda self: False)
    assert parts(server, **fields) == fast
    assert taken[True] == took
    if fields.get("n", 1) == 1 and "separate_reasoning" not in fields:
        assert took > len(fast) / 3
    else:
        assert not took


def test_a_whole_reply_takes_it_too(server: Live, taken: Counter[bool]) -> None:
    reply = server.chat(seed=5)
    assert taken[True] > reply["usage"]["completion_tokens"] / 2


def test_an_error_comes_after_all_that_was_taken(
    taken: Counter[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=20)) as live:
        fast = parts(live)
        assert "error" in fast[-1] and taken[True] > 10
        monkeypatch.setattr(DirectChunks, "ready", lambda self: False)
        assert parts(live) == fast


class _Run:
    """A continuation whose every id shows its number, and ends at 9."""

    ended_by: str | None = None
    index = 0

    def take(self, delta: GenerationDelta) -> list[Delta]:
        if 13 in delta.token_ids:
            raise ValueError("thirteen")
        if 9 in delta.token_ids:
            self.ended_by = "close"
        part = Part.ANSWER if max(delta.token_ids) > 4 else Part.REASONING
        return [Delta(0, part, str(id_)) for id_ in delta.token_ids]


class _Sink:
    def __init__(self) -> None:
        self.open = True
        self.seen: list[str] = []

    def ready(self) -> bool:
        return self.open

    def emit(self, event: Event) -> None:
        raise AssertionError("only the service emits")

    def show(self, delta: Delta) -> None:
        self.seen.append(delta.text)


def path() -> tuple[FastPath, _Sink, Any]:
    sink, run = _Sink(), _Run()
    fast = FastPath(sink)
    fast.show = sink.show
    fast.open()
    fast.begin(run)  # type: ignore[arg-type]
    return fast, sink, run


def of(*ids: int, finish: Any = None) -> GenerationDelta:
    return GenerationDelta(ids, None, finish)


def test_it_takes_nothing_before_it_is_open_nor_an_end_nor_for_a_client_that_reads_nothing() -> (
    None
):
    fast, sink, run = path()
    closed = FastPath(sink)
    closed.show = sink.show
    closed.begin(run)
    assert not closed.take(of(1))
    assert fast.take(of(1)) and sink.seen == ["1"]
    assert not fast.take(of(2, finish="stop"))
    sink.open = False
    assert not fast.take(of(3))
    assert sink.seen == ["1"]
    sink.open = True
    assert fast.take(of(4)) and sink.seen == ["1", "4"]
    fast.end()
    assert not fast.take(of(1))


def test_what_ends_a_continuation_is_shown_by_its_reader_and_nothing_is_taken_after() -> None:
    fast, sink, run = path()
    assert fast.take(of(1)) and not fast.take(of(9))
    assert not fast.take(of(2))
    # vLLM may have added more to it by the time it is read.
    assert [one.text for one in fast.taken(run, of(9, 2))] == ["9"]
    assert sink.seen == ["1"]


def test_an_error_of_one_reply_is_raised_where_it_is_read_and_not_where_it_is_taken() -> None:
    fast, _, run = path()
    assert not fast.take(of(13)) and not fast.take(of(1))
    with pytest.raises(ValueError, match="thirteen"):
        fast.taken(run, of(13))


def test_the_end_comes_after_text_that_waits_also_where_it_was_not_offered() -> None:
    async def run() -> None:
        fast, sink, run = path()
        assert fast.take(of(1), 10)
        assert [one.text for one in fast.taken(run, of(2, finish="length"))] == ["2"]
        assert sink.seen == ["1"]

    asyncio.run(run())


def test_text_that_can_not_be_shown_when_its_time_has_come_is_an_error_of_its_reply() -> None:
    def broken(delta: Delta) -> None:
        raise ValueError("broken")

    async def run() -> None:
        for way in ("late", "slow client", "taken"):
            fast, sink, run = path()
            assert fast.take(of(1), 0.001)
            fast.show = broken
            if way == "late":
                await asyncio.sleep(0.05)
            elif way == "slow client":
                sink.open = False
                assert not fast.take(of(2))
            else:
                assert not fast.take(of(2))
            with pytest.raises(ValueError, match="broken"):
                fast.taken(run, of(2))

    asyncio.run(run())


def test_text_that_waits_is_sent_in_order_before_anything_else() -> None:
    async def run() -> None:
        fast, sink, _ = path()
        assert all(fast.take(of(n), 0.01) for n in (1, 2))
        assert sink.seen == []
        assert fast.take(of(5), 0.01)  # of another part
        assert sink.seen == ["12"]
        assert fast.take(of(6))  # the loop keeps up again
        assert sink.seen == ["12", "5", "6"]
        assert fast.take(of(7), 10)
        assert not fast.take(of(8, finish="stop"))
        assert sink.seen[-1] == "7"
        assert fast.take(of(5), 0.001)
        await asyncio.sleep(0.05)
        assert sink.seen[-1] == "5"
        assert fast.take(of(6), 10)
        fast.end()
        assert sink.seen[-1] == "6"

    asyncio.run(run())


class _Cycle:
    """As much of uvicorn's as writes."""

    def __init__(self) -> None:
        self.transport = self
        self.written: list[bytes] = []
        self.disconnected = self.closing = self.broken = False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("the handler is closed")
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing


def test_chunks_of_many_replies_go_out_together_and_at_once_when_asked() -> None:
    async def run() -> None:
        outbox, cycles = Outbox(), [_Cycle() for _ in range(3)]
        chunks = [DirectChunks(cycle, outbox) for cycle in cycles]  # type: ignore[arg-type]
        for one in chunks:
            one.write(b"ab")
            one.write(b"c" * 17)
        assert [cycle.written for cycle in cycles] == [[], [], []]
        whole = b"2\r\nab\r\n11\r\n" + b"c" * 17 + b"\r\n"
        chunks[1].flush()
        assert cycles[1].written == [whole]
        cycles[2].disconnected = True
        await asyncio.sleep(0)
        assert [cycle.written for cycle in cycles] == [[whole], [whole], []]
        chunks[0].write(b"d")
        await asyncio.sleep(0)
        assert cycles[0].written == [whole, b"1\r\nd\r\n"]

    asyncio.run(run())


def test_more_replies_than_wait_together_all_get_what_comes() -> None:
    async def run() -> None:
        outbox, cycles = Outbox(), [_Cycle() for _ in range(_MOST_WAITING + 3)]
        chunks = [DirectChunks(cycle, outbox) for cycle in cycles]  # type: ignore[arg-type]
        for text in (b"a", b"b"):
            for one in chunks:
                one.write(text)
            await asyncio.sleep(0)
        expected = [b"1\r\na\r\n", b"1\r\nb\r\n"]
        assert all(cycle.written == expected for cycle in cycles)

    asyncio.run(run())


def test_a_connection_that_is_gone_keeps_nobody_elses_reply_back() -> None:
    async def run() -> None:
        outbox, cycles = Outbox(), [_Cycle() for _ in range(3)]
        chunks = [DirectChunks(cycle, outbox) for cycle in cycles]  # type: ignore[arg-type]
        cycles[0].closing = cycles[1].broken = True
        for _ in range(2):
            for one in chunks:
                one.write(b"a")
            await asyncio.sleep(0)
        assert [len(cycle.written) for cycle in cycles] == [0, 0, 2]

    asyncio.run(run())
