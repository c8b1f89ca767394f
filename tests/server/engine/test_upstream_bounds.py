"""What an upstream sends without an end: it harms its own request, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from extracot_server.engine.base import EngineRequestError, GenerationRequest
from extracot_server.engine.remote import arrivals as lines
from extracot_server.engine.remote import bounded
from extracot_server.engine.remote.arrivals import Arrivals, event_data
from extracot_server.engine.remote.bounded import answer_within, error_body
from extracot_server.engine.remote.transport import MOST_OF_A_HEAD
from extracot_server.engine.remote.wire import UpstreamFailure, Wire
from tests.server.engine.remote_fakes import FakeUpstream, Faults, remote, upstreams
from tests.server.engine.remote_requests import ask
from tests.server.engine.running import run
from tests.server.engine.test_remote_transport import CHUNKED, Server, against, chunk, saying

PIECES = [b"a" * 8192] * (2 * MOST_OF_A_HEAD // 8192)
LINES = [b"x-%d: %b\r\n" % (n, b"a" * 4096) for n in range(2 * MOST_OF_A_HEAD // 4096)]
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        (OK + b"x-endless: ", *PIECES),
        (OK, *LINES),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 400,) * 16,
        (CHUNKED + chunk(b"ab") + b"0\r\nx-endless: ", *PIECES),
        (CHUNKED + chunk(b"ab") + b"0\r\n", *LINES),
    ],
    ids=["a header", "headers", "another reply", "a trailer", "trailers"],
)
def test_a_head_without_an_end_is_cut_off(parts: tuple[bytes, ...]) -> None:
    async def get(client: httpx.AsyncClient, server: Server) -> None:
        with pytest.raises(httpx.RemoteProtocolError, match=f"more than {MOST_OF_A_HEAD} bytes"):
            await client.get("/")

    against(saying(*parts), get, silence=0.5)


def test_a_head_and_a_body_of_ordinary_sizes_are_read() -> None:
    head = OK + b"x: " + b"a" * 32_000 + b"\r\ncontent-length: 300000\r\n\r\n"

    async def get(client: httpx.AsyncClient, server: Server) -> None:
        for _ in range(3):
            response = await client.get("/")
            assert (len(response.content), len(response.headers["x"])) == (300_000, 32_000)
        assert server.opened == 1

    against(saying(head, b"b" * 300_000), get)


Reading = Callable[[httpx.AsyncClient, httpx.Request], Awaitable[Any]]


def read_from(parts: tuple[bytes, ...], read: Reading) -> Any:
    """What ``read`` makes of the answer of a server that says this and stays."""
    found: list[Any] = []

    async def get(client: httpx.AsyncClient, server: Server) -> None:
        found.append(await read(client, client.build_request("GET", "/")))

    against(saying(*parts), get, silence=1.0)
    return found[0]


def test_of_an_error_a_beginning_is_read_though_it_does_not_end() -> None:
    async def read(client: httpx.AsyncClient, request: httpx.Request) -> bytes:
        return await error_body(await client.send(request, stream=True))

    head = b"HTTP/1.1 500 Oh\r\ncontent-length: 1000000000\r\n\r\n"
    assert read_from((head, b"x" * 100_000), read) == b"x" * bounded.MOST_OF_AN_ERROR
    assert read_from((OK + b"content-length: 2\r\n\r\nab",), read) == b"ab"


def test_a_small_question_has_an_answer_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_OF_AN_ANSWER", 1000)

    async def read(client: httpx.AsyncClient, request: httpx.Request) -> bytes | str:
        try:
            return (await answer_within(client.send(request, stream=True), 5.0)).content
        except httpx.RemoteProtocolError as error:
            return str(error)

    head = OK + b"content-length: %d\r\n\r\n"
    assert read_from((head % 1000, b"x" * 1000), read) == b"x" * 1000
    assert "more than 1000 bytes" in read_from((head % 1001, b"x" * 1001), read)


def test_a_small_answer_that_drips_is_too_late() -> None:
    async def read(client: httpx.AsyncClient, request: httpx.Request) -> None:
        with pytest.raises(httpx.ReadTimeout):
            await answer_within(client.send(request, stream=True), 0.05)

    read_from((OK + b"content-length: 500\r\n\r\n", *[b"x"] * 100), read)


def arrivals() -> Arrivals:
    return Arrivals(Wire.GENERATE, GenerationRequest("r", (1,), 9))


def data_of(*blocks: bytes) -> list[bytes]:
    """The data of a stream that comes in these blocks."""

    async def stream() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    async def read() -> list[bytes]:
        return [line async for found in event_data(stream(), arrivals()) for line in found]

    return asyncio.run(read())


def test_lines_are_the_same_wherever_they_are_split() -> None:
    text = b": no\n\ndata: one\r\n\r\ndata:two\nevent: x\ndata:  three"
    for size in range(1, len(text) + 1):
        blocks = [text[at : at + size] for at in range(0, len(text), size)]
        assert data_of(*blocks) == [b"one", b"two", b"three"]


def test_a_line_without_an_end_is_an_upstreams_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_OF_A_LINE", 100)
    assert data_of(b"data: " + b"x" * 94, b"\n") == [b"x" * 94]
    with pytest.raises(UpstreamFailure, match="a line of more than 100 bytes"):
        data_of(b"data: one\ndata: ", *[b"x" * 30] * 4, b"\n")


@pytest.mark.anyio
async def test_another_upstream_serves_what_one_cannot_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_OF_A_LINE", 10_000)
    bad, good = FakeUpstream(faults=Faults(answer=(200, "data: " + "x" * 20_000))), FakeUpstream()
    async with upstreams(bad, good), remote(bad, good) as engine:
        for index in range(2):
            assert (await run(engine, ask(f"r{index}"))).finish is not None
        assert bad.served >= 1 and good.served == 2
        assert await engine.in_flight() == 0


@pytest.mark.anyio
async def test_a_long_refusal_is_told_by_its_beginning() -> None:
    said = {"error": {"message": "no " * 100_000, "code": 400}}
    fake = FakeUpstream(faults=Faults(answer=(400, said)))
    async with upstreams(fake), remote(fake) as engine:
        with pytest.raises(EngineRequestError, match="no no") as caught:
            await run(engine, ask())
        assert len(str(caught.value)) <= 400
