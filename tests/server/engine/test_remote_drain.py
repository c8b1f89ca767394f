"""Upstreams with weights, drains, limits and a canary, on servers that answer; and new ones while
they run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import (
    DrainRefusedError,
    EngineDeadError,
    GenerationRequest,
    Placement,
)
from extracot_server.engine.remote.catalog import UpstreamMismatchError
from extracot_server.engine.remote.engine import RemoteEngine
from tests.server.engine.remote_fakes import (
    FakeUpstream,
    Faults,
    listening,
    load_scripted,
    scripted,
    upstreams,
)
from tests.server.engine.remote_requests import SLOW, ask, running, until
from tests.server.engine.running import run

pytestmark = pytest.mark.anyio


def settings(fake: FakeUpstream, name: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(fake.url, name, **more)


async def started(*wanted: UpstreamSettings, canary: Sequence[str] = ()) -> RemoteEngine:
    engine = RemoteEngine(wanted, canary=canary, load_model=load_scripted, health_seconds=60.0)
    await engine.start()
    return engine


def placed(name: str, *, canary: bool) -> tuple[GenerationRequest, Placement]:
    place = Placement(canary)
    return ask(name, 1, placement=place), place


async def test_weights_share_what_comes_one_after_the_other() -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with upstreams(a, b):
        engine = await started(settings(a, "a", weight=3), settings(b, "b"))
        for index in range(12):
            await run(engine, ask(f"r{index}", 1))
        assert (a.served, b.served) == (9, 3)
        assert [(one.name, one.weight, one.taken) for one in engine.upstreams()] == [
            ("a", 3, 9),
            ("b", 1, 3),
        ]
        await engine.close(0)


async def test_a_drained_upstream_ends_what_it_has_and_gets_nothing_new() -> None:
    a, b = FakeUpstream(engine=scripted(token_interval_seconds=0.01)), FakeUpstream()
    async with upstreams(a, b):
        engine = await started(settings(a, "a"), settings(b, "b"))
        task = asyncio.create_task(run(engine, ask("long", 30)))
        await until(lambda: a.served == 1)
        assert engine.drain("a", wanted=True)
        for index in range(3):
            await run(engine, ask(f"r{index}", 1))
        assert (a.served, b.served) == (1, 3)
        assert len((await task).ids) == 30, "what ran there was finished there"
        with pytest.raises(DrainRefusedError, match="b is the last upstream"):
            engine.drain("b", wanted=True)
        assert not engine.drain("c", wanted=True)
        assert engine.drain("a", wanted=True, try_only=True)
        engine.drain("a", wanted=False)
        await run(engine, ask("back", 1))
        assert a.served == 2
        await engine.close(0)


async def test_only_a_reply_that_has_begun_may_go_on_at_a_drained_upstream() -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with upstreams(a, b):
        engine = await started(settings(a, "a"), settings(b, "b"))
        engine.drain("a", wanted=True)
        b.faults.health = 503
        await engine._examine(engine._upstreams[1])
        with pytest.raises(EngineDeadError, match="no upstream is healthy"):
            await engine.check_health()
        with pytest.raises(EngineDeadError):
            await run(engine, ask("new", 1))
        await run(engine, ask("rest", 1, continues=True))
        assert (a.served, b.served) == (1, 0)
        await engine.close(0)


async def test_the_last_one_that_is_well_is_not_drained_and_one_that_is_not_may_be() -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with upstreams(a, b):
        engine = await started(settings(a, "a"), settings(b, "b"))
        b.faults.health = 503
        await engine._examine(engine._upstreams[1])
        with pytest.raises(DrainRefusedError, match="a is the last upstream"):
            engine.drain("a", wanted=True)
        assert engine.drain("b", wanted=True)
        await run(engine, ask("1", 1))
        assert a.served == 1
        await engine.close(0)


async def test_one_that_is_removed_while_its_health_is_asked_ends_no_checks() -> None:
    a, b, ill = FakeUpstream(), FakeUpstream(), FakeUpstream()
    async with upstreams(a, b, ill):
        engine = RemoteEngine(
            [settings(a, "a"), settings(b, "b"), settings(ill, "ill")],
            load_model=load_scripted,
            health_seconds=0.01,
        )
        await engine.start()
        gone = engine._upstreams[2]
        ill.faults.health_hangs = True
        asked = ill.asked
        await until(lambda: ill.asked > asked)
        await engine.use_upstreams([settings(a, "a"), settings(b, "b")], [])
        await until(lambda: gone not in engine._left)
        b.faults.health = 503
        await until(lambda: engine.upstreams()[1].down is not None)
        assert await gone.tokenize("served", "x") is None
        await engine.close(0)


async def test_more_than_an_upstream_may_run_wait_for_room() -> None:
    a, b = FakeUpstream(engine=scripted(**SLOW)), FakeUpstream(engine=scripted(**SLOW))
    async with upstreams(a, b):
        engine = await started(settings(a, "a", max_running=1), settings(b, "b", max_running=2))
        async with running(engine, ask("1", 4000)) as first, running(engine, ask("2", 4000)):
            async with running(engine, ask("3", 4000)):
                await until(lambda: a.served + b.served == 3)
                assert (a.served, b.served) == (1, 2)
                task = asyncio.create_task(run(engine, ask("4", 1)))
                await until(lambda: len(first) > 3)
                assert a.served + b.served == 3 and await engine.in_flight() == 3
            assert len((await task).ids) == 1, "it had the place of the one that left"
        await engine.close(0)


async def test_who_waits_for_room_is_told_when_the_last_upstream_is_out() -> None:
    a = FakeUpstream(engine=scripted(**SLOW))
    async with upstreams(a):
        engine = await started(settings(a, "a", max_running=1))
        async with running(engine, ask("1", 4000)):
            await until(lambda: a.served == 1)
            task = asyncio.create_task(run(engine, ask("2", 1)))
            await asyncio.sleep(0)
            engine._upstreams[0].quarantine("it was unplugged")
            with pytest.raises(EngineDeadError, match="unplugged"):
                await task
        await engine.close(0)


async def test_each_side_has_its_own_upstreams_and_the_others_as_a_last_resort() -> None:
    a, b, new = FakeUpstream(), FakeUpstream(), FakeUpstream()
    async with upstreams(a, b, new):
        engine = await started(
            settings(a, "a"), settings(b, "b"), settings(new, "new"), canary=["new"]
        )
        assert [one.canary for one in engine.upstreams()] == [False, False, True]
        for index in range(4):
            request, place = placed(f"s{index}", canary=False)
            await run(engine, request)
            assert not place.moved
        await run(engine, ask("without a side", 1))
        assert (a.served, b.served, new.served) == (3, 2, 0)
        request, place = placed("c", canary=True)
        await run(engine, request)
        assert new.served == 1 and not place.moved
        new.faults.answer = (500, "broken")
        request, place = placed("c2", canary=True)
        await run(engine, request)
        assert (new.served, place.moved) == (2, True), "tried, and served by another"
        new.faults.answer = None
        engine.drain("new", wanted=True)
        request, place = placed("c3", canary=True)
        await run(engine, request)
        assert (new.served, place.moved) == (2, True)
        await engine.close(0)


async def test_upstreams_are_replaced_while_replies_run() -> None:
    old, kept, new = FakeUpstream(engine=scripted(**SLOW)), FakeUpstream(), FakeUpstream()
    async with upstreams(old, kept, new):
        engine = await started(settings(old, "old"), settings(kept, "kept"))
        async with running(engine, ask("long", 4000)) as seen:
            await until(lambda: len(seen) > 2)
            wanted = [settings(kept, "kept", weight=2), settings(new, "new", api_key="secret")]
            await engine.use_upstreams(wanted, ["new"])
            assert [(one.name, one.down) for one in engine.upstreams()] == [
                ("kept", None),
                ("new", None),
            ]
            await run(engine, placed("c", canary=True)[0])
            await run(engine, placed("s", canary=False)[0])
            assert (old.served, kept.served, new.served) == (1, 1, 1)
            assert "Bearer secret" in new.keys
            count = len(seen)
            await until(lambda: len(seen) > count)
            assert await engine.in_flight() == 1, "what ran on the old one goes on"
        await until(lambda: not engine._left)
        await engine.use_upstreams([settings(kept, "kept"), settings(new, "new", api_key="b")], [])
        await run(engine, ask("1", 1))
        await run(engine, ask("2", 1))
        assert "Bearer b" in new.keys
        await engine.close(0)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": "other"}, "serves other, not served"),
        ({"max_model_len": 100}, "context of 100 tokens"),
        ({"faults": Faults(health=503)}, "none of these upstreams can be used now"),
    ],
    ids=["another model", "a shorter context", "none that answers"],
)
async def test_new_upstreams_that_cannot_be_leave_the_old_ones(
    other: dict[str, Any], words: str
) -> None:
    a, b = FakeUpstream(), FakeUpstream(**other)
    async with upstreams(a, b):
        engine = await started(settings(a, "a"))
        with pytest.raises(UpstreamMismatchError, match=words):
            await engine.use_upstreams([settings(b, "b")], [])
        assert [one.name for one in engine.upstreams()] == ["a"]
        await run(engine, ask("still", 1))
        assert (a.served, b.served) == (1, 0)
        await engine.close(0)


async def test_a_drain_by_call_outlives_new_settings_and_one_by_file_is_the_files() -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with upstreams(a, b):
        engine = await started(settings(a, "a"), settings(b, "b"))
        engine.drain("a", wanted=True)
        await engine.use_upstreams([settings(a, "a", weight=5), settings(b, "b")], [])
        assert engine.upstreams()[0].drained_by == "call"
        engine.drain("a", wanted=False)
        await engine.use_upstreams([settings(a, "a", drain=True), settings(b, "b")], [])
        assert engine.upstreams()[0].drained_by == "file"
        with pytest.raises(DrainRefusedError, match="the upstreams file drains a"):
            engine.drain("a", wanted=False)
        await engine.close(0)


async def test_a_new_upstream_that_does_not_answer_yet_is_taken_in_later() -> None:
    a, b = FakeUpstream(), FakeUpstream(faults=Faults(health=503))
    async with listening(a), listening(b):
        engine = await started(settings(a, "a"))
        await engine.use_upstreams([settings(a, "a"), settings(b, "b")], [])
        assert "503" in (engine.upstreams()[1].down or "")
        b.faults.health = 200
        await engine._examine(engine._upstreams[1])
        assert engine.upstreams()[1].down is None
        await engine.close(0)


async def test_a_drained_upstream_may_serve_something_else_meanwhile() -> None:
    a, b = FakeUpstream(), FakeUpstream(model="half upgraded")
    async with upstreams(a, b):
        engine = await started(settings(a, "a"), settings(b, "b", drain=True))
        assert "serves half upgraded" in (engine.upstreams()[1].down or "")
        await engine.use_upstreams([settings(b, "b", drain=True), settings(a, "a")], [])
        await run(engine, ask("1", 1))
        assert (a.served, b.served) == (1, 0)
        b.model = "served"
        await engine._examine(engine._upstreams[0])
        assert engine.upstreams()[0].down is None
        await engine.close(0)


@pytest.mark.parametrize("drained_first", [True, False])
async def test_what_is_served_is_not_a_drained_server_s(drained_first: bool) -> None:
    a, b = FakeUpstream(model="half upgraded"), FakeUpstream()
    short = FakeUpstream(max_model_len=512)
    async with upstreams(a, b, short):
        wanted = [settings(a, "a", drain=True), settings(short, "short", drain=True)]
        wanted.insert(2 if drained_first else 0, settings(b, "b"))
        engine = await started(*wanted)
        assert (engine.info.model, engine.info.max_model_len) == ("served", 4096)
        down = {state.name: state.down or "" for state in engine.upstreams()}
        assert "serves half upgraded" in down["a"] and "512 tokens" in down["short"]
        await engine.close(0)


async def test_a_canary_that_is_named_first_lends_the_others_no_card() -> None:
    new, old = FakeUpstream(root="/models/new"), FakeUpstream(root="/models/old")
    async with upstreams(new, old):
        engine = await started(settings(new, "new"), settings(old, "old"), canary=["new"])
        assert engine.source == "/models/old"
        await engine.close(0)
