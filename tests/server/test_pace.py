"""Tokens share an event where the loop falls behind, never where it keeps up, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from extracot_server.config.settings import SettingsError, load_settings
from extracot_server.engine.base import GenerationDelta, GenerationRequest
from extracot_server.engine.pace import BEATS, Pace
from extracot_server.engine.remote.arrivals import Arrivals
from extracot_server.engine.remote.wire import Wire
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from tests.server.live import Live, collect, serve

MOST = 0.1


def after(*beats: tuple[float, bool]) -> list[float]:
    """How long readers wait after each of these beats: (seconds late, whether the loop paused)."""
    pace = Pace(MOST)
    found = []
    for late, paused in beats:
        pace.observe(late, paused=paused)
        found.append(pace.hold)
    return found


def test_a_loop_that_keeps_up_holds_nothing() -> None:
    assert set(after(*[(0.0, True)] * 50)) == {0.0}
    # Bursts, and one long piece of work, have a pause behind them.
    assert set(after(*[(0.03, True), (0.0, False), (0.5, False), (0.0, True)] * 20)) == {0.0}


@pytest.mark.parametrize("beat", [(0.0, False), (0.05, True)], ids=["no pause", "late"])
def test_a_loop_that_falls_behind_holds_ever_longer_up_to_the_bound(
    beat: tuple[float, bool],
) -> None:
    held = after(*[beat] * 20)
    assert held[: BEATS - 1] == [0.0] * (BEATS - 1)
    assert held[BEATS - 1 : BEATS + 5] == [0.005, 0.01, 0.02, 0.04, 0.08, MOST]
    assert held[-1] == MOST


def test_what_is_held_goes_down_as_soon_as_the_loop_has_a_pause() -> None:
    held = after(*[(0.0, False)] * 12, *[(0.0, True)] * 8)
    assert held[12:17] == [0.05, 0.025, 0.0125, 0.00625, 0.003125] and held[17:] == [0.0] * 3


def test_the_loop_is_looked_at_while_replies_run() -> None:
    async def spin() -> list[float]:
        pace = Pace(MOST)
        pace.watch()
        pace.watch()
        while not pace.hold:  # a task that never lets the loop wait
            await asyncio.sleep(0)
        found = [pace.hold]
        pace.unwatch()
        found.append(pace.hold)
        pace.unwatch()
        return [*found, pace.hold]

    first, one_runs, none_runs = asyncio.run(spin())
    assert first == one_runs > none_runs == 0


def test_a_bound_of_nothing_is_never() -> None:
    pace = Pace(0)
    for _ in range(20):
        pace.observe(1.0, paused=False)
    assert pace.hold == 0


def behind() -> Pace:
    """A loop that is always behind."""
    pace = Pace()
    pace.hold = 0.002
    return pace


@pytest.fixture(scope="module")
def late_server() -> Iterator[Live]:
    """A server that is always behind."""
    with serve(ScriptedBehaviour()) as live:
        (service,) = live.app.state.extracot.services.values()
        service.pace = behind()
        yield live


REQUESTS: list[dict[str, Any]] = [
    {},
    {"budget": 0.2, "logprobs": True, "top_logprobs": 2},
    {"budget": {"max_reasoning_tokens": 5}},
    {"n": 3, "seed": 1, "budget": 0.4},
    {"stop": "boxed"},
    {"max_tokens": 10},
]


@pytest.mark.parametrize("fields", REQUESTS, ids=lambda fields: ",".join(fields) or "plain")
def test_joined_events_tell_the_same_reply(
    token_server: Live, late_server: Live, fields: dict[str, Any]
) -> None:
    fields = {"stream_options": {"include_usage": True}, **fields}
    expected, chunks = token_server.chunks(**fields), late_server.chunks(**fields)
    assert len(chunks) < len(expected) / 2 or len(expected) < 12
    for index in range(fields.get("n", 1)):
        assert collect(chunks, index) == collect(expected, index)
    assert chunks[-1]["usage"] == expected[-1]["usage"]
    assert chunks[-1]["budget"] == expected[-1]["budget"]


def test_a_scripted_reader_that_is_behind_gets_several_tokens_and_all_of_them() -> None:
    async def read(pace: Pace | None) -> list[GenerationDelta]:
        engine = ScriptedEngine()
        await engine.start()
        context = tuple(engine.tokenizer.encode("What is 1 + 1?"))
        request = GenerationRequest("r", context, 200, pace=pace)
        return [delta async for delta in engine.generate(request)]

    one, many = asyncio.run(read(None)), asyncio.run(read(behind()))
    assert [len(delta.token_ids) for delta in one] == [1] * len(one)
    assert len(many[0].token_ids) == 1 and len(many) < len(one)  # the first token never waits
    assert [i for d in many for i in d.token_ids] == [i for d in one for i in d.token_ids]


def chunk(token: int, reason: str = "null") -> bytes:
    """A line of vLLM's stream."""
    return b'{"choices":[{"token_ids":[%d],"finish_reason":%s}]}' % (token, reason.encode())


def test_what_a_connection_has_kept_becomes_one_delta_up_to_its_end() -> None:
    arrivals = Arrivals(Wire.GENERATE, GenerationRequest("r", (1,), 9))
    assert not arrivals and arrivals.take() is None
    arrivals.add([chunk(1), chunk(2), b'{"choices":[]}', chunk(3, '"length"'), b"[DONE]"])
    first = arrivals.take()
    assert first is not None and first.token_ids == (1,)
    assert arrivals.take_with(first) == GenerationDelta((1, 2, 3), None, "length")
    assert not arrivals


@pytest.mark.parametrize("value", ["-1", "1001", "soon"])
def test_a_bound_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="join_milliseconds"):
        load_settings(["--engine", "scripted", f"--join-milliseconds={value}"])
