"""An upstream is one server: what is told where its name stands for several. Own resolver."""

from __future__ import annotations

import logging
from socket import AF_INET, AF_INET6

import pytest

from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.remote.names import resolve_name, shared_name
from tests.server.engine.remote_fakes import FakeUpstream, remote, upstreams

pytestmark = pytest.mark.anyio
ZONE = {
    "one": [(AF_INET, "10.0.0.1")],
    "both": [(AF_INET, "10.0.0.1"), (AF_INET6, "fd00::1")],
    "again": [(AF_INET, "10.0.0.1"), (AF_INET, "10.0.0.1")],
    "three": [(AF_INET, f"10.0.0.{n}") for n in (1, 2, 3)] + [(AF_INET6, "fd00::1")],
    "unknown": [],
}


async def by_zone(host: str, port: int) -> list[tuple[int, str]]:
    assert port in (80, 8000)
    return [(int(family), address) for family, address in ZONE[host]]


@pytest.mark.parametrize("host", ["one", "both", "again", "unknown"])
async def test_a_name_of_one_server_is_nothing_to_tell(host: str) -> None:
    assert await shared_name(f"http://{host}:8000", by_zone) is None


async def test_a_name_of_several_servers_is_told() -> None:
    line = await shared_name("http://three", by_zone)
    assert line is not None and "upstream http://three: the name has 3 addresses" in line


async def test_the_engine_says_so_at_start_and_serves(caplog: pytest.LogCaptureFixture) -> None:
    async def three(host: str, port: int) -> list[tuple[int, str]]:
        return await by_zone("three", 80)

    fake = FakeUpstream()
    with caplog.at_level(logging.WARNING):
        async with upstreams(fake), remote(fake, resolve=three):
            assert fake.url in caplog.text and "3 addresses" in caplog.text


async def test_it_is_said_of_new_upstreams_too(caplog: pytest.LogCaptureFixture) -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with upstreams(a, b):

        async def many(host: str, port: int) -> list[tuple[int, str]]:
            return await by_zone("three" if b.url.endswith(f":{port}") else "unknown", 80)

        with caplog.at_level(logging.WARNING):
            async with remote(a, resolve=many) as engine:
                assert not caplog.text
                wanted = [UpstreamSettings(a.url, "a"), UpstreamSettings(b.url, "b")]
                await engine.use_upstreams(wanted, [])
                assert f"{b.url}: the name has 3 addresses" in caplog.text
                caplog.clear()
                await engine.use_upstreams(wanted, [])
                assert not caplog.text, "once"


async def test_the_systems_own_resolver() -> None:
    assert (int(AF_INET), "127.0.0.1") in await resolve_name("localhost", 8000)
    assert await resolve_name("no-such-name.invalid", 8000) == []
