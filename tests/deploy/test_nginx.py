"""The shipped nginx, run for real, in front of a server that keeps what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import IN_CI
from tests.deploy.test_rolling_restart import NGINX, Server, reverse_proxy
from tests.server.test_upgrades import JDK, WEBSOCKET, post

BODY = b'{"messages": []}'


@asynccontextmanager
async def recorder() -> AsyncIterator[tuple[Server, list[bytes]]]:
    """A server that says `ok` to everything, and the requests that it got, whole."""
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        sizes = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Len")]
        got.append(head + await reader.readexactly(sum(sizes)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        yield Server(server.sockets[0].getsockname()[1]), got


@pytest.mark.anyio
@pytest.mark.parametrize("offer", [JDK, WEBSOCKET])
async def test_no_offer_of_another_protocol_is_passed_on(
    offer: tuple[str, ...], tmp_path: Path
) -> None:
    if NGINX is None:
        assert not IN_CI, "CI puts nginx here (.ci/run)"
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    async with recorder() as (server, got), reverse_proxy(tmp_path, [server]) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/messages", BODY, *offer))
        assert b"200 OK" in await reader.readline()
        writer.close()
    head, _, body = got[-1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/messages ") and body == BODY
    assert b"\r\nupgrade:" not in head.lower()
    assert b"\r\nconnection: close" in head.lower()
