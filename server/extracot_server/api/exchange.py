"""One request and its reply, streamed or whole, the same for every API.

Reads the body within its limits, takes the chat that it asks for to the service, waits for the
first event so that an early failure is still an HTTP status, and hands events to a
:class:`ReplyWriter`, which says what they look like on the wire. Knows no API in particular.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response

from extracot.errors import ExtracotError
from extracot_server.admission.scheduler import Permit
from extracot_server.api.auth import principal_of
from extracot_server.api.body import ChatBody, parse_json_object
from extracot_server.api.earlier_reasoning import EarlierReasoning
from extracot_server.api.errors import (
    BodyTooLargeError,
    EncodedBodyError,
    EngineNotReadyError,
    HttpError,
    rate_limit_headers,
    to_http,
)
from extracot_server.api.reasoning_in_content import in_content
from extracot_server.api.reasoning_seal import ReasoningSeal
from extracot_server.api.request_context import RequestContext
from extracot_server.api.sse import (
    Encoder,
    EventStream,
    StreamSink,
    frames_of,
    wait_for_disconnect,
)
from extracot_server.budget.canary import Side
from extracot_server.budget.values import Target
from extracot_server.engine.base import EngineDeadError
from extracot_server.generation.events import Event, Finished
from extracot_server.generation.fast_path import FastPath, Sink
from extracot_server.generation.report import announced
from extracot_server.generation.request import (
    ChatRequest,
    PreparedChat,
    RequestTimes,
    ServedModel,
)
from extracot_server.generation.service import ChatService
from extracot_server.generation.trial import Trial
from extracot_server.model_registry.registry import AppState

RENDER_HERE = 32 * 1024
"""Bytes of body up to which a prompt is tokenised at once; longer ones in a thread."""
_PLAIN = {"content-encoding": "identity", "transfer-encoding": "chunked"}
"""What these fields may say of a body that is not compressed."""
P = ParamSpec("P")
T = TypeVar("T")
B = TypeVar("B", bound=ChatBody)


def app_state(request: Request) -> AppState:
    """The state of the app that serves this request."""
    state: AppState = request.app.state.extracot
    return state


def reasoning_seal(request: Request) -> ReasoningSeal:
    """What seals reasoning for the clients of the app that serves this request."""
    seal: ReasoningSeal = request.app.state.reasoning_seal
    return seal


ToChat = Callable[[B, RequestContext], ChatRequest]
"""Reads an API's body: the chat request that it asks for."""


class ReplyWriter(Encoder, Protocol):
    """What one request's reply looks like in some API: as a stream, or whole."""

    def add(self, event: Event) -> object:
        """Take in the next event of a whole reply."""

    def whole(self) -> dict[str, Any]:
        """The JSON reply, once every event has been added."""


@dataclass(frozen=True, slots=True)
class Received:
    """A body that has been read, on ``request.state.received``."""

    size: int
    times: RequestTimes


class BodyRoute(APIRoute):
    """A route whose declared body FastAPI describes, and this server reads.

    FastAPI would hold a body of any size and depth, and validate it before anything else is known.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Called by FastAPI once, when the route is added."""
        kind = body_model(self)

        async def handler(request: Request) -> Response:
            response: Response = await self.endpoint(request, kind.read(await read_json(request)))
            return response

        return handler


def body_model(route: APIRoute) -> type[ChatBody]:
    """What a route declares its body to be."""
    assert route.body_field is not None
    model: type[ChatBody] = route.body_field.field_info.annotation  # type: ignore[assignment]
    return model


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object, within the server's limits; the result is kept."""
    raw = await read_body(request, app_state(request).settings.max_body_bytes)
    request.state.received = Received(len(raw), RequestTimes())
    return parse_json_object(raw)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; :class:`BodyTooLargeError` before more than ``limit`` bytes are held.

    :class:`EncodedBodyError` for one that is compressed.
    """
    check_plain(request)
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


def check_plain(request: Request) -> None:
    """:class:`EncodedBodyError` for a body that is compressed."""
    for name, plain in _PLAIN.items():
        value = ",".join(request.headers.getlist(name))
        if {coding.strip().lower() for coding in value.split(",")} - {"", plain}:
            raise EncodedBodyError(name, value)


async def tokenising(
    request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """What ``work`` gives, which tokenises the body of a request."""
    if request.state.received.size <= RENDER_HERE:
        return work(*args, **kwargs)
    # Tokenising this much here would make every other stream wait.
    return await asyncio.to_thread(work, *args, **kwargs)


def chat_request_of(
    request: Request, body: B, to_chat: ToChat[B], *, engine_up: bool = True
) -> tuple[ChatService, ChatRequest]:
    """The service for the body's model, and the chat request.

    Raises what ``to_chat`` raises, :class:`~extracot_server.errors.ModelNotFoundError`, and, unless
    the engine need not be up, :class:`EngineNotReadyError` while that model's is down.
    """
    state, principal = app_state(request), principal_of(request)
    service, alias = state.find(body.model, principal)
    if engine_up:
        check_up(state, service)
    return service, to_chat(body, _context(request, alias, service.model))


def check_up(state: AppState, service: ChatService) -> None:
    """Raise :class:`EngineNotReadyError` while a service's engine is down."""
    if not state.engine_of(service.model.name).up:
        raise EngineNotReadyError("the engine is not up")


def _context(request: Request, alias: Target | None, model: ServedModel) -> RequestContext:
    state, principal = app_state(request), principal_of(request)
    limits = (state.settings.max_messages, state.settings.max_choices)
    thoughts = EarlierReasoning(partial(reasoning_seal(request).open, principal.name))
    return RequestContext(request.state.request_id, principal, alias, *limits, model, thoughts)


async def handle(
    request: Request,
    body: B,
    to_chat: ToChat[B],
    writer: Callable[[PreparedChat, B], ReplyWriter],
    *,
    stream: bool | None,
) -> Response:
    """Serve a request for a reply in some API; raises what refuses it before it runs."""
    service, chat_request = chat_request_of(request, body, to_chat)
    trial = None if service.canary is None else service.canary.draw(chat_request)
    chat = None
    if trial is not None and trial.side is Side.CANARY:
        try:
            service, chat = await _at_canary(request, body, to_chat, service, chat_request, trial)
        except EngineDeadError:
            trial.move("down")
        except ExtracotError:  # what the model itself makes of it decides
            trial.move("refused")
    if chat is None:
        chat = await _prepared(request, service, chat_request, trial)
    exchange = _Exchange(
        app_state(request),
        service,
        chat,
        writer(chat, body),
        body.reasoning_in_content,
        request.state.permit,
    )
    request.state.running = True
    gone = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        return await (exchange.stream(gone) if stream else exchange.collect(gone))
    except BaseException:
        gone.cancel()
        raise


async def _prepared(
    request: Request,
    service: ChatService,
    chat_request: ChatRequest,
    trial: Trial | None,
    model: ServedModel | None = None,
) -> PreparedChat:
    """What the service will do about a request; raises what refuses it."""
    chat_request = await service.within_quotas(chat_request)
    times = request.state.received.times
    chat = await tokenising(request, service.prepare, chat_request, times, trial, model)
    await service.check(chat)
    return chat


async def _at_canary(
    request: Request,
    body: B,
    to_chat: ToChat[B],
    service: ChatService,
    chat_request: ChatRequest,
    trial: Trial,
) -> tuple[ChatService, PreparedChat]:
    """The same at the canary: what serves it, and what it will do. Raises what refuses it there.

    Its model is called what the client calls the other one.
    """
    canary = trial.canary
    if canary.settings.model is not None:
        state = app_state(request)
        called = chat_request.asked_model or service.model.name
        service = state.services[canary.settings.model]
        check_up(state, service)
        context = _context(request, chat_request.budget.alias, service.model)
        chat_request = replace(to_chat(body, context), asked_model=called)
    elif canary.served is not None:
        context = _context(request, chat_request.budget.alias, canary.served)
        chat_request = to_chat(body, context)
    return service, await _prepared(request, service, chat_request, trial, canary.served)


class _Collected:
    """A sink that keeps the events for a whole reply."""

    def __init__(self, writer: ReplyWriter) -> None:
        self._add = writer.add

    def ready(self) -> bool:
        return True

    def emit(self, event: Event) -> None:
        self._add(event)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request and its reply, streamed or whole."""

    _state: AppState
    _service: ChatService
    _chat: PreparedChat
    _writer: ReplyWriter
    _in_content: bool
    _permit: Permit

    def _events(self, sink: Sink) -> tuple[AsyncGenerator[Event, None], FastPath]:
        """What happens while the request runs, and what hands some of it straight to ``sink``."""
        fast = FastPath(sink)
        if self._in_content:
            events = self._service.run(self._chat, permit=self._permit)
            return in_content(events, self._chat.model.runtime.tags), fast
        return self._service.run(self._chat, fast, self._permit), fast

    def _headers(self, *, begun: bool) -> dict[str, str]:
        """``begun``: the engine has said something, so that the side is known which serves it."""
        account = self._chat.account
        limits = rate_limit_headers(account.standings, account.told_at)
        trial = self._chat.trial
        side = {}
        if trial is not None and (begun or trial.settled):
            side = {"x-extracot-arm": trial.served_by.value}
        return {"x-extracot-budget": json.dumps(announced(self._chat)), **side, **limits}

    async def stream(self, gone: asyncio.Task[None]) -> Response:
        """Wait for the first event, so that an early failure is still an HTTP status."""
        sink = StreamSink(self._writer)
        events, fast = self._events(sink)
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
            frames_of(first, events, self._writer, self._note, fast.open),
            gone=gone,
            heartbeat_seconds=self._state.settings.heartbeat_seconds,
            send_seconds=self._state.settings.send_timeout_seconds,
            headers=self._headers(begun=first.done()),
            sink=sink,
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
                raise error
            return JSONResponse(self._writer.whole(), headers=self._headers(begun=True))
        finally:
            for task in (collecting, gone):
                task.cancel()
            await asyncio.gather(collecting, gone, return_exceptions=True)

    async def _collect(self) -> None:
        event: Event | None = None
        events, fast = self._events(_Collected(self._writer))
        fast.open()
        try:
            async for event in events:
                self._writer.add(event)
        finally:
            await events.aclose()
        if not isinstance(event, Finished):
            raise EngineDeadError("the reply ended without its report")

    def _note(self, error: BaseException | None) -> HttpError:
        """Map an error of a running request and remember a dead engine."""
        if isinstance(error, EngineDeadError):
            self._state.engine_of(self._service.model.name).mark(False)
        return to_http(error or EngineDeadError("the engine's stream broke off"))
