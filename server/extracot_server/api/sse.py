"""Chat events to server-sent events, and the response that sends them until the client leaves.

A chunk is a prefix made once per request plus ``json.dumps`` of the text: no object per token.
Knows nothing of budgets beyond passing the report on.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from extracot.reasoning import Part
from extracot_server.api.errors import HttpError
from extracot_server.engine.base import TokenLogprob
from extracot_server.jobs import ChoiceDone, Event, Finished
from extracot_server.plan import Delta

log = logging.getLogger("extracot.server")
HANG_UP = "extracot.hang_up"
"""The ASGI extension, ``{"call": function}``, that ends a connection and waits for nobody."""
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": keep-alive\n\n"
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ChunkEncoder:
    """Turns the events of one request into ``data:`` frames."""

    def __init__(
        self,
        *,
        reply_id: str,
        created: int,
        model: str,
        include_usage: bool,
        include_reasoning: bool,
        logprobs: Callable[[tuple[TokenLogprob, ...]], dict[str, Any]] | None,
    ) -> None:
        head = {"id": reply_id, "object": "chat.completion.chunk", "created": created}
        head["model"] = model
        self._head = "data: " + _json(head)[:-1]
        self._usage = ',"usage":null' if include_usage else ""
        self._include_usage = include_usage
        self._include_reasoning = include_reasoning
        self._logprobs = logprobs
        self._started: set[int] = set()

    def encode(self, event: Event) -> bytes:
        """The frames of one event; empty where it shows nothing."""
        if isinstance(event, Delta):
            return self._delta(event)
        if isinstance(event, ChoiceDone):
            opening = self._open(event.index)
            budget = f',"budget":{_json(asdict(event.report))}'
            closing = self._choice(event.index, "{}", f'"{event.finish_reason}"', extra=budget)
            return opening + closing
        return self._finished(event)

    def _delta(self, event: Delta) -> bytes:
        opening = self._open(event.index)
        text = _json(event.text)
        if event.part is Part.REASONING:
            if not self._include_reasoning:
                return opening
            body = f'{{"reasoning":{text},"reasoning_content":{text}}}'
            return opening + self._choice(event.index, body)
        body = f'{{"content":{text}}}'
        logprobs = "null"
        if self._logprobs is not None and event.logprobs:
            logprobs = _json(self._logprobs(event.logprobs))
        return opening + self._choice(event.index, body, logprobs=logprobs)

    def _open(self, index: int) -> bytes:
        if index in self._started:
            return b""
        self._started.add(index)
        return self._choice(index, '{"role":"assistant","content":""}')

    def _choice(
        self,
        index: int,
        delta: str,
        finish: str = "null",
        *,
        logprobs: str = "null",
        extra: str = "",
    ) -> bytes:
        choice = (
            f'{{"index":{index},"delta":{delta},"logprobs":{logprobs},"finish_reason":{finish}}}'
        )
        return f'{self._head},"choices":[{choice}]{self._usage}{extra}}}\n\n'.encode()

    def _finished(self, event: Finished) -> bytes:
        if not self._include_usage:
            return b""
        usage, budget = _json(event.usage.as_openai()), _json(asdict(event.report))
        return f'{self._head},"choices":[],"usage":{usage},"budget":{budget}}}\n\n'.encode()


def error_frame(error: HttpError) -> bytes:
    """An error after the first byte; ``[DONE]`` follows it."""
    return f"data: {_json(error.body)}\n\n".encode()


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has gone; to be started once the body has been read."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


class EventStream(Response):
    """Sends frames as they come; a client that leaves closes the generator behind them."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        gone: asyncio.Task[None],
        heartbeat_seconds: float,
        send_seconds: float,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(
            headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers}
        )
        del self.headers["content-length"]
        self._frames = frames
        self._gone = gone
        self._heartbeat = heartbeat_seconds
        self._patience = send_seconds
        self._last_sent = 0.0
        self._blocked = False  # a frame waits for the client to take what was sent before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the frames end or the client leaves."""
        sending = asyncio.create_task(self._send_all(send))
        beating = asyncio.create_task(self._beat(send))
        hang_up = scope.get("extensions", {}).get(HANG_UP, {}).get("call", sending.cancel)
        self._last_sent = asyncio.get_running_loop().time()
        self._await_reader(hang_up)
        try:
            await asyncio.wait({sending, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._timer.cancel()
            for task in (sending, beating, self._gone):
                task.cancel()
            results = await asyncio.gather(sending, beating, self._gone, return_exceptions=True)
            await self._frames.aclose()
        failure = results[0]
        if isinstance(failure, Exception) and not isinstance(failure, OSError):
            raise failure

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        now = asyncio.get_running_loop().time
        async for frame in self._frames:
            if frame:
                self._last_sent, self._blocked = now(), True
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                self._blocked = False
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _await_reader(self, hang_up: Callable[[], object]) -> None:
        """Cut off a client that has taken nothing for too long: it would hold a turn for ever."""
        loop = asyncio.get_running_loop()
        left = self._patience
        if self._blocked:
            left = self._last_sent + self._patience - loop.time()
            if left <= 0:
                log.info("a client took nothing of its stream for %g s: cut off", self._patience)
                hang_up()
                left = self._patience
        self._timer = loop.call_later(max(left, 0.01), self._await_reader, hang_up)

    async def _beat(self, send: Send) -> None:
        """A comment whenever nothing was sent for a while, so that no proxy gives up."""
        now = asyncio.get_running_loop().time
        while True:
            due = now() if self._blocked else self._last_sent
            await asyncio.sleep(max(due + self._heartbeat - now(), 0.01))
            if not self._blocked and now() - self._last_sent >= self._heartbeat:
                self._last_sent = now()
                await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})


async def frames_of(
    events: AsyncGenerator[Event, None],
    encoder: ChunkEncoder,
    on_error: Callable[[Exception], HttpError],
) -> AsyncGenerator[bytes, None]:
    """Frames of a request: its chunks, or an error event, and always ``[DONE]`` at the end."""
    try:
        async for event in events:
            yield encoder.encode(event)
    except Exception as error:  # mapped in one place; the status line has gone out already
        yield error_frame(on_error(error))
    finally:
        await events.aclose()
    yield DONE
