"""The transport to upstreams: HTTP/1.1 as httpx has it, and pieces shown where they arrive."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from extracot_server.engine.remote import transport
from extracot_server.engine.remote.transport import LISTEN, direct_transport
from tests.deploy.test_tls import self_signed

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/plain\r\n\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Server:
    """Answers each request by ``talk``, and counts its connections."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.opened = self.closed = 0
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next(
                    (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                     if line.startswith(b"content-length:")), 0
                )  # fmt: skip
                await reader.readexactly(length)
                await self.talk(reader, writer)
                if writer.is_closing():
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


def against(
    talk: Talk, ask: Callable[[httpx.AsyncClient, Server], Coroutine[Any, Any, None]], **times: Any
) -> Server:
    """Run ``ask`` with a client of such a server."""

    async def run() -> Server:
        told = Server(talk)
        listener = await asyncio.start_server(told.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        told.url = f"http://127.0.0.1:{port}"
        own = direct_transport(times.pop("keep_alive", 2.0))
        assert own is not None
        timeout = httpx.Timeout(times.pop("silence", 5.0), connect=5.0, pool=None)
        async with httpx.AsyncClient(
            base_url=told.url, transport=own, timeout=timeout, trust_env=False
        ) as client:
            await ask(client, told)
        listener.close()
        return told

    return asyncio.run(run())


def saying(*parts: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            if part == b"":
                writer.close()
                return
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.005)

    return talk


@pytest.mark.parametrize(
    "parts",
    [
        (CHUNKED + chunk(b"ab") + chunk(b"cd"), b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n", b"\r\nab", b"cd"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"),
        (CHUNKED[:20], CHUNKED[20:] + b"4\r", b"\nabcd\r\n0\r\n", b"\r\n"),
    ],
    ids=["chunks", "length", "continue", "in bits"],
)
def test_replies_are_read_whole_and_the_connection_is_used_again(parts: tuple[bytes, ...]) -> None:
    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        for path in ("/a?b=c", "/d"):
            response = await client.post(path, json={"x": 1}, headers={"X-Own": "yes"})
            assert (response.status_code, response.content) == (200, b"abcd")
        assert server.opened == 1

    server = against(saying(*parts), ask)
    first = server.heads[0].decode().lower()
    assert first.startswith("post /a?b=c http/1.1\r\n") and "x-own: yes\r\n" in first
    assert first.count("host: 127.0.0.1:") == 1 and "content-length: 7\r\n" in first


def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        for _ in range(2):
            assert (await client.get("/")).content == b"abcd"
        assert server.opened == 2

    against(saying(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd", b""), ask)


@pytest.mark.parametrize("why", ["close", "rest", "given up"])
def test_connections_that_are_not_used_again(why: str) -> None:
    closing = b"connection: close\r\n" if why == "close" else b""
    head = b"HTTP/1.1 200 OK\r\n%bcontent-length: 4\r\n\r\n" % closing
    parts = (head + b"ab", b"cd") if why != "given up" else (head + b"ab",)

    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        for count in (1, 2):
            async with client.stream("GET", "/") as response:
                if why == "given up":
                    async for piece in response.aiter_raw():
                        assert piece == b"ab"
                        break
                else:
                    assert await response.aread() == b"abcd"
            if why == "rest":
                await asyncio.sleep(0.1)
            assert server.opened == count
        for _ in range(100):
            if server.closed == 2 or why == "close":
                break
            await asyncio.sleep(0.01)
        assert server.closed == 2 or why == "close"

    against(saying(*parts), ask, keep_alive=0.05)


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ((b"",), httpx.RemoteProtocolError),
        ((CHUNKED + chunk(b"ab"), b""), httpx.RemoteProtocolError),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", b""), httpx.RemoteProtocolError),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), httpx.RemoteProtocolError),
        ((CHUNKED + b"zz\r\n",), httpx.RemoteProtocolError),
        ((CHUNKED + chunk(b"ab"),), httpx.ReadTimeout),
        ((b"HTTP/1.1 200",), httpx.ReadTimeout),
    ],
    ids=["nothing", "in a chunk", "short", "no http", "no chunk", "silent", "silent head"],
)
def test_what_goes_wrong_is_an_error_of_httpx(
    parts: tuple[bytes, ...], kind: type[Exception]
) -> None:
    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        with pytest.raises(kind):
            await client.get("/")

    against(saying(*parts), ask, silence=0.2)


def test_a_server_that_is_not_there_or_speaks_no_tls() -> None:
    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9/")
        hangs_up = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = hangs_up.sockets[0].getsockname()[1]
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://127.0.0.1:{port}")
        hangs_up.close()
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")

    against(saying(b"HTTP/1.1 400 Bad\r\n\r\n", b""), ask)


def test_tls_is_checked_by_httpxs_own_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert self_signed(tmp_path, "127.0.0.1").returncode == 0
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def run(*, trusted: bool) -> None:
        server = Server(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"))
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        async with httpx.AsyncClient(transport=direct_transport(2.0), timeout=5.0) as client:
            if trusted:
                for _ in range(2):
                    assert (await client.get(url)).content == b"abcd"
                assert server.opened == 1
            else:
                with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                    await client.get(url)
        listener.close()

    asyncio.run(run(trusted=False))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    asyncio.run(run(trusted=True))


def test_silence_is_counted_from_the_last_piece_also_where_a_listener_took_it() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for n in range(10):
            writer.write(chunk(b"%d" % n))
            await writer.drain()
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)

    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        for listens in (False, True):
            seen: list[bytes] = []

            def take(piece: bytes, seen: list[bytes] = seen) -> bytes:
                seen.append(piece)
                return b""

            async with client.stream("GET", "/") as response:
                if listens:
                    response.extensions[LISTEN](take)
                with pytest.raises(httpx.ReadTimeout):
                    async for piece in response.aiter_raw():
                        seen.append(piece)
            assert b"".join(seen) == b"0123456789"

    against(talk, ask, silence=0.3)


def test_a_listener_sees_what_comes_while_it_is_waited_for_and_leaves_the_rest() -> None:
    heard: list[bytes] = []
    read: list[bytes] = []

    def take(piece: bytes) -> bytes:
        heard.append(piece)
        return b"" if len(heard) % 2 else piece[1:]

    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        async with client.stream("GET", "/") as response:
            response.extensions[LISTEN](take)
            async for piece in response.aiter_raw():
                read.append(piece)

    parts = [chunk(b"%d%d" % (n, n)) for n in range(6)]
    against(saying(CHUNKED, *parts, b"0\r\n\r\n"), ask)
    assert heard == [b"00", b"11", b"22", b"33", b"44", b"55"]
    assert read == [b"1", b"3", b"5"]


def test_a_reader_that_is_slow_holds_the_server_back() -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(CHUNKED)
        for _ in range(400):
            writer.write(chunk(b"x" * 65536))
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        async with client.stream("GET", "/") as response:
            await asyncio.sleep(0.5)
            assert sent < 400 * 65536
            size = 0
            async for piece in response.aiter_raw():
                size += len(piece)
            assert size == 400 * 65536

    against(talk, ask)


def test_a_connection_that_was_held_back_answers_the_next_request() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 300 * 1024 if len(server.heads) == 1 else 4
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)

    server = Server(talk)

    async def run() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        async with httpx.AsyncClient(transport=direct_transport(2.0), timeout=5.0) as client:
            async with client.stream("GET", url):
                await asyncio.sleep(0.2)  # and nothing of it is read
            assert (await client.get(url)).content == b"xxxx"
        listener.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "headers"), [("HEAD", {}), ("GET", {"x-key": "a\nb: c"})], ids=["head", "line end"]
)
def test_what_is_not_asked(method: str, headers: dict[str, str]) -> None:
    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        with pytest.raises(httpx.LocalProtocolError):
            await client.request(method, "/", headers=headers)
        assert not server.opened

    against(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), ask)


def test_a_server_that_says_more_than_it_was_asked_is_not_believed_again() -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"

    async def ask(client: httpx.AsyncClient, server: Server) -> None:
        for count in (1, 2):
            assert (await client.get("/")).content == b"abcd"
            assert server.opened == count

    against(saying(reply + reply), ask)


def test_proxies_of_the_environment_and_windows_get_httpxs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert direct_transport(2.0) is None
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert direct_transport(2.0) is not None
    monkeypatch.setattr(transport, "httptools", None)
    assert direct_transport(2.0) is None
