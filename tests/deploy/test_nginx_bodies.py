"""The shipped nginx and the bodies of requests: what it keeps, and what it sends once only."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.conftest import IN_CI
from tests.deploy import compose
from tests.deploy.test_nginx import BODY, recorder
from tests.deploy.test_rolling_restart import NGINX, ROOT, Server, free_ports, reverse_proxy
from tests.server.key_files import bearer, write
from tests.server.live import serve, user

CHAT = "/v1/chat/completions"
KEPT, PASSED_ON = 64_999, 65_000
STUCK = 8


@pytest.fixture(autouse=True)
def _with_nginx() -> None:
    if NGINX is None:
        assert not IN_CI, "CI puts nginx here (.ci/run)"
        pytest.skip("nginx is not installed (apt-get install nginx-light)")


def bodies_in_files(folder: Path) -> int:
    """Files below a folder of bodies that any process has open: nginx takes their names away."""
    found = 0
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            found += str(link.readlink()).startswith(f"{folder}/body/")
    return found


@asynccontextmanager
async def begun(
    address: str, head: str, body: bytes, count: int
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many requests that send this much of a body and then nothing."""
    port = int(address.rpartition(":")[2])
    readers, writers = [], []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            readers.append(reader)
            writers.append(writer)
            lines = (f"POST {CHAT} HTTP/1.1", "Host: x", "Authorization: Bearer wrong", head)
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
        yield readers
    finally:
        for writer in writers:
            writer.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("head", "start"),
    [
        ("Content-Length: 4000000", b""),
        (f"Content-Length: {PASSED_ON}", b""),
        ("Transfer-Encoding: chunked", b"3e8\r\n"),
    ],
)
async def test_a_long_body_waits_for_no_end_until_its_key_is_looked_at(
    head: str, start: bytes, tmp_path: Path
) -> None:
    keys = write(tmp_path / "keys.yaml", {"name": "a", "key": "sk-a"})
    with serve(keys=keys) as live:
        server = Server(int(live.url.rpartition(":")[2]))
        async with reverse_proxy(tmp_path, [server]) as address:
            assert address is not None
            async with begun(address, head, start + b"x" * 1000, STUCK) as readers:
                for reader in readers:
                    assert b" 401 " in await asyncio.wait_for(reader.readline(), 60)
                assert bodies_in_files(tmp_path) == 0


@pytest.mark.anyio
async def test_bodies_that_never_end_leave_room_for_others(tmp_path: Path) -> None:
    keys = write(tmp_path / "keys.yaml", {"name": "a", "key": "sk-a"})
    with serve(keys=keys) as live:
        server = Server(int(live.url.rpartition(":")[2]))
        async with reverse_proxy(tmp_path, [server]) as address:
            assert address is not None
            half = (f"Content-Length: {KEPT}", b"x" * (KEPT - 1))
            long = ("Content-Length: 4000000", b"x" * 300_000)
            async with begun(address, *half, STUCK), begun(address, *long, STUCK):
                async with httpx.AsyncClient(base_url=address, timeout=60) as http:
                    for size in (10, KEPT, 3_000_000):
                        body = {"messages": user(), "max_tokens": 5, "user": "x" * size}
                        reply = await http.post(CHAT, json=body, headers=bearer("sk-a"))
                        assert reply.status_code in (200, 400), reply.text  # not of nginx's own
                        assert "proxy" not in reply.text
                assert bodies_in_files(tmp_path) == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "size", "times"),
    [
        (CHAT, KEPT, 2),
        (CHAT, 1_000_000, 1),  # more than nginx reads at once
        ("/v1/batches", 16, 1),
        ("/v1/files", 16, 1),
    ],
)
async def test_what_a_front_end_has_of_a_request_that_stores_is_sent_once(
    path: str, size: int, times: int, tmp_path: Path
) -> None:
    """And a long body, which nginx has no more; others are sent to another front end."""
    asked: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(len(await reader.readexactly(size)))
        if len(asked) > 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()  # the first one dies

    async with AsyncExitStack() as stack:
        fronts = [await asyncio.start_server(answer, "127.0.0.1") for _ in range(2)]
        for front in fronts:
            await stack.enter_async_context(front)
        servers = [Server(front.sockets[0].getsockname()[1]) for front in fronts]
        address = await stack.enter_async_context(reverse_proxy(tmp_path, servers))
        assert address is not None
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            reply = await http.post(path, content=b"x" * size)
    assert asked == [size] * times
    assert reply.status_code == (200 if times == 2 else 502)


@pytest.mark.anyio
@pytest.mark.parametrize("path", [CHAT, "/v1/batches", "/v1/files", "/v1/batches/batch_1/cancel"])
async def test_where_a_front_end_cannot_be_reached_every_request_goes_to_another(
    path: str, tmp_path: Path
) -> None:
    (nobody,) = free_ports(1)
    async with recorder() as (server, got):
        servers = [Server(nobody), server]
        async with reverse_proxy(tmp_path, servers) as address:
            assert address is not None
            async with httpx.AsyncClient(base_url=address, timeout=60) as http:
                for body in (BODY, b"x" * PASSED_ON, BODY, b"x" * PASSED_ON):
                    reply = await http.post(f"{path}?a=%2F", content=body)
                    assert reply.status_code == 200
                    head, _, sent = got[-1].partition(b"\r\n\r\n")
                    assert head.startswith(f"POST {path}?a=%2F ".encode()) and sent == body


def test_bodies_that_are_kept_fit_into_the_container() -> None:
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()

    def number(pattern: str) -> int:
        (found,) = re.findall(rf"^ *{pattern};", text, re.M)
        return int(found)

    workers = number(r"worker_processes (\d+)") * number(r"worker_connections (\d+)")
    most = number(r"client_body_buffer_size (\d+)k") * 1024
    assert most >= KEPT, "a longer one would lie in a file"
    memory = compose.services("scale")["proxy"]["deploy"]["resources"]["limits"]["memory"]
    assert workers * most <= int(memory.removesuffix("m")) * 2**20 * 0.75
