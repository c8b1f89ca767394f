"""The shipped nginx, run for real, in front of a server that keeps what it is sent."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import IN_CI
from tests.deploy.test_rolling_restart import (
    NGINX,
    ROOT,
    Server,
    free_ports,
    nginx_configuration,
    reverse_proxy,
)
from tests.server.test_upgrades import JDK, WEBSOCKET, post

BODY = b'{"messages": []}'


@asynccontextmanager
async def recorder(status: int = 200) -> AsyncIterator[tuple[Server, list[bytes]]]:
    """A server that says `ok` to everything, and the requests that it got, whole."""
    answer_head = f"HTTP/1.1 {status} Said\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        sizes = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Len")]
        got.append(head + await reader.readexactly(sum(sizes)))
        writer.write(f"{answer_head}ok".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        yield Server(server.sockets[0].getsockname()[1]), got


@pytest.fixture(autouse=True)
def _with_nginx() -> None:
    if NGINX is None:
        assert not IN_CI, "CI puts nginx here (.ci/run)"
        pytest.skip("nginx is not installed (apt-get install nginx-light)")


@pytest.mark.anyio
@pytest.mark.parametrize("offer", [JDK, WEBSOCKET])
async def test_no_offer_of_another_protocol_is_passed_on(
    offer: tuple[str, ...], tmp_path: Path
) -> None:
    async with recorder() as (server, got), reverse_proxy(tmp_path, [server]) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/messages", BODY, *offer))
        assert b" 200 " in await reader.readline()
        writer.close()
    head, _, body = got[-1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/messages ") and body == BODY
    assert b"\r\nupgrade:" not in head.lower()
    assert b"\r\nconnection: close" in head.lower()


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error object of nginx's own answer, in the form of the API."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and (error["param"], error["code"]) == (None, code)
    return error


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("POST", "/v1/chat/completions", {"content": b"x" * 6_000_000}, 413, "request_too_large"),
        ("GET", "/v1/models", {"headers": {"x-long": "x" * 40_000}}, 400, "invalid_http"),
        ("GET", "/v1/models", {"headers": {"host": "no host"}}, 400, "invalid_http"),
        ("GET", "/v1/" + "x" * 40_000, {}, 414, "invalid_http"),
        ("GET", "/metrics", {}, 404, "not_found"),
        ("GET", "/own-error", {}, 404, "not_found"),
        ("TRACE", "/v1/models", {}, 405, "method_not_allowed"),
    ],
)
async def test_what_nginx_refuses_is_refused_in_the_apis_form(
    method: str, path: str, sent: dict[str, Any], status: int, code: str, tmp_path: Path
) -> None:
    async with recorder() as (server, got), reverse_proxy(tmp_path, [server]) as address:
        assert address is not None
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            answer = await http.request(method, path, **sent)
        assert error_of(answer, status, code)["type"] == "invalid_request_error"
        assert "retry-after" not in answer.headers and got == []


@pytest.mark.anyio
async def test_what_has_no_address_is_refused_so_too(tmp_path: Path) -> None:
    async with recorder() as (server, _), reverse_proxy(tmp_path, [server]) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"nonsense\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ") and b"Content-Type: application/json" in head
    assert b'"code": "invalid_http"' in body


@pytest.mark.anyio
async def test_without_a_front_end_clients_are_told_to_come_back(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    async with reverse_proxy(tmp_path, [Server(nobody)]) as address:
        assert address is not None
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            for answer in (
                await http.post("/v1/chat/completions", content=BODY),
                await http.post("/v1/files", content=BODY),
                await http.get("/ready"),
            ):
                error = error_of(answer, 502, "server_unavailable")
                assert error["type"] == "service_unavailable_error"
                assert int(answer.headers["retry-after"]) > 0


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 502, 503, 504])
async def test_a_servers_own_errors_pass_as_they_are(status: int, tmp_path: Path) -> None:
    async with recorder(status) as (server, _), reverse_proxy(tmp_path, [server]) as address:
        assert address is not None
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            answer = await http.get("/v1/models")
    assert (answer.status_code, answer.text) == (status, "ok")
    assert "retry-after" not in answer.headers


def test_a_soft_limit_of_1024_files_is_enough(tmp_path: Path) -> None:
    """As containers have it under Docker 29."""
    assert NGINX is not None
    port, front = free_ports(2)
    path = nginx_configuration(tmp_path, port, [Server(front)])
    command = ["bash", "-c", 'ulimit -Sn 1024; exec "$@"', "bash", NGINX, "-e", "stderr", "-t"]
    done = subprocess.run(
        [*command, "-c", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "open file resource limit" not in done.stderr, done.stderr


def quicker() -> list[tuple[str, str]]:
    """How long nginx waits for a reply, and asks another front end: an hour takes two seconds."""
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    found = re.findall(r"(proxy_(?:read|next_upstream)_timeout) (\d+)([smh]);", text)
    assert len(found) == 2
    parts = {"s": 3600, "m": 60, "h": 1}
    return [
        (f"{name} {n}{unit};", f"{name} {int(n) * 2000 // parts[unit]}ms;")
        for name, n, unit in found
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("seconds", "status", "times"),
    [(0.3, 200, 2), (60.0, 504, 1)],
    ids=["dies after nine minutes", "says nothing for an hour"],
)
async def test_a_front_end_that_dies_late_is_replaced(
    seconds: float, status: int, times: int, tmp_path: Path
) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(BODY))
        if len(asked) == 1:
            with suppress(TimeoutError):  # or until nginx gives up
                await asyncio.wait_for(reader.read(), seconds)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with AsyncExitStack() as stack:
        fronts = [await asyncio.start_server(answer, "127.0.0.1") for _ in range(2)]
        for front in fronts:
            await stack.enter_async_context(front)
        servers = [Server(front.sockets[0].getsockname()[1]) for front in fronts]
        proxy = reverse_proxy(tmp_path, servers, other=quicker())
        address = await stack.enter_async_context(proxy)
        assert address is not None
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            reply = await http.post("/v1/chat/completions", content=BODY)
    assert (reply.status_code, len(asked)) == (status, times)
