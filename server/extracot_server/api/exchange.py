"""One request and its reply, streamed or whole, whatever the API that it came by.

Takes a chat to the service, waits for the first event so that an early failure is still an HTTP
status, and hands events to a :class:`Shape`, which says what they look like on the wire. Knows no
body and no format.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from fastapi import Request
from starlette.responses import JSONResponse, Response

from extracot.reasoning import Part
from extracot_server.api.auth import principal_of
from extracot_server.api.errors import BodyTooLargeError, EngineNotReadyError, HttpError, to_http
from extracot_server.api.sse import Encoder, EventStream, frames_of, wait_for_disconnect
from extracot_server.budget.values import Target
from extracot_server.engine.base import EngineDeadError, TokenLogprob
from extracot_server.generation.events import CallDelta, ChoiceDone, Delta, Event, Finished
from extracot_server.generation.report import announced
from extracot_server.generation.request import ChatRequest, PreparedChat, RequestTimes
from extracot_server.generation.service import ChatService
from extracot_server.model_registry.registry import AppState
from extracot_server.tool_calls.tools import CallPart

RENDER_HERE = 32 * 1024
"""Bytes of body up to which a prompt is tokenised at once; longer ones in a thread."""
P = ParamSpec("P")
T = TypeVar("T")


def app_state(request: Request) -> AppState:
    """The state of the app that serves this request."""
    state: AppState = request.app.state.extracot
    return state


@dataclass(slots=True)
class Call:
    """A tool call of a whole reply; ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Choice:
    """One of the ``n`` replies, whole. ``done`` is there once it has ended."""

    reasoning: str = ""
    answer: str = ""
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    done: ChoiceDone | None = None


@dataclass(frozen=True, slots=True)
class WholeReply:
    """Every event of a request, collected."""

    choices: list[Choice]
    end: Finished


def replayed(reply: WholeReply) -> Iterator[Event]:
    """The events of a whole reply once more, each text and each call in one."""
    for index, choice in enumerate(reply.choices):
        yield Delta(index, Part.REASONING, choice.reasoning)
        yield Delta(index, Part.ANSWER, choice.answer)
        for number, call in enumerate(choice.calls):
            yield CallDelta(index, CallPart(number, call.arguments, call.id, call.name))
        if choice.done is None:
            raise EngineDeadError("a reply ended without its accounts")
        yield choice.done
    yield reply.end


class Shape(Protocol):
    """What one request's reply looks like in some API."""

    def whole(self, reply: WholeReply) -> dict[str, Any]:
        """The JSON reply."""

    def encoder(self) -> Encoder:
        """What turns the events into frames of a stream."""


class Writer(Protocol):
    """Turns events into those of some API, and keeps the reply they add up to."""

    reply: dict[str, Any]

    def write(self, event: Event) -> list[dict[str, Any]]:
        """The events that follow from one of ours."""


class WrittenShape:
    """A :class:`Shape` whose whole reply and stream come from one writer, so they cannot differ."""

    def __init__(self, writer: Writer, encoder: Encoder) -> None:
        self._writer = writer
        self._encoder = encoder

    def whole(self, reply: WholeReply) -> dict[str, Any]:
        """See :class:`Shape`."""
        for event in replayed(reply):
            self._writer.write(event)
        return self._writer.reply

    def encoder(self) -> Encoder:
        """See :class:`Shape`."""
        return self._encoder


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; :class:`BodyTooLargeError` before more than ``limit`` bytes are held."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLargeError(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise BodyTooLargeError(limit)
        parts.append(part)
    return b"".join(parts)


async def tokenising(body_size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``work`` gives, which tokenises a body of so many bytes."""
    if body_size <= RENDER_HERE:
        return work(*args, **kwargs)
    # Tokenising this much here would make every other stream wait.
    return await asyncio.to_thread(work, *args, **kwargs)


def find_service(request: Request, model: str | None) -> tuple[ChatService, Target | None]:
    """Who serves a model name, and the budget its alias stands for.

    Raises :class:`~extracot_server.errors.ModelNotFoundError`, and :class:`EngineNotReadyError`
    while that model's engine is down.
    """
    state = app_state(request)
    service, alias = state.find(model, principal_of(request))
    if not state.engine_of(service.model.name).up:
        raise EngineNotReadyError("the engine is not up")
    return service, alias


async def run_chat(
    request: Request,
    service: ChatService,
    chat_request: ChatRequest,
    shape: Callable[[PreparedChat], Shape],
    *,
    times: RequestTimes,
    body_size: int,
    stream: bool,
) -> Response:
    """Prepare a chat, run it and answer in the shape; raises what refuses it before it runs."""
    chat = await tokenising(body_size, service.prepare, chat_request, times)
    await service.check(chat)
    exchange = _Exchange(app_state(request), service, chat, shape(chat))
    request.state.running = True
    gone = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        return await (exchange.stream(gone) if stream else exchange.collect(gone))
    except BaseException:
        gone.cancel()
        raise


class _Exchange:
    """One request and its reply, streamed or whole."""

    def __init__(
        self, state: AppState, service: ChatService, chat: PreparedChat, shape: Shape
    ) -> None:
        self._state = state
        self._service = service
        self._chat = chat
        self._shape = shape

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-extracot-budget": json.dumps(announced(self._chat))}

    async def stream(self, gone: asyncio.Task[None]) -> Response:
        """Wait for the first event, so that an early failure is still an HTTP status."""
        events = self._service.run(self._chat)
        first = asyncio.create_task(anext(events))
        await asyncio.wait(
            {first, gone},
            timeout=self._state.settings.heartbeat_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if gone.done() or (first.done() and first.exception() is not None):
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await events.aclose()
            if gone.done():
                return Response(status_code=499)
            self._note(first.exception())
        if first.done():
            first.result()
        return EventStream(
            frames_of(first, events, self._shape.encoder(), self._note),
            gone=gone,
            heartbeat_seconds=self._state.settings.heartbeat_seconds,
            send_seconds=self._state.settings.send_timeout_seconds,
            headers=self._headers,
        )

    async def collect(self, gone: asyncio.Task[None]) -> Response:
        """The same events as one JSON reply; a client that leaves aborts them."""
        collecting = asyncio.create_task(self._collect())
        try:
            await asyncio.wait({collecting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                return Response(status_code=499)
            error = collecting.exception()
            if error is not None:
                self._note(error)
            return JSONResponse(self._shape.whole(collecting.result()), headers=self._headers)
        finally:
            for task in (collecting, gone):
                task.cancel()
            await asyncio.gather(collecting, gone, return_exceptions=True)

    async def _collect(self) -> WholeReply:
        texts: list[tuple[list[str], list[str]]] = [([], []) for _ in range(self._chat.request.n)]
        choices = [Choice() for _ in texts]
        end: Finished | None = None
        events = self._service.run(self._chat)
        try:
            async for event in events:
                if isinstance(event, Delta):
                    texts[event.index][event.part is Part.ANSWER].append(event.text)
                    choices[event.index].logprobs.extend(event.logprobs)
                elif isinstance(event, CallDelta):
                    _add_call(choices[event.index].calls, event)
                elif isinstance(event, ChoiceDone):
                    choices[event.index].done = event
                else:
                    end = event
        finally:
            await events.aclose()
        if end is None:
            raise EngineDeadError("the reply ended without its accounts")
        for choice, (reasoning, answer) in zip(choices, texts, strict=True):
            choice.reasoning, choice.answer = "".join(reasoning), "".join(answer)
        return WholeReply(choices, end)

    def _note(self, error: BaseException | None) -> HttpError:
        """Map an error of a running request and remember a dead engine."""
        if isinstance(error, EngineDeadError):
            self._state.engine_of(self._service.model.name).mark(False)
        return to_http(error or EngineDeadError("the engine's stream broke off"))


def _add_call(calls: list[Call], event: CallDelta) -> None:
    part = event.part
    if part.name is not None:
        calls.append(Call(part.id or "", part.name))
    if calls:
        calls[-1].arguments += part.arguments
