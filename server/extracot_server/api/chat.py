"""``POST /v1/chat/completions``: the way in and out of one chat request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import asdict
from time import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from extracot.prompt import Tokenizer
from extracot.reasoning import Part
from extracot_server.api.auth import caller_of
from extracot_server.api.bodies import ChatCompletionRequest
from extracot_server.api.errors import BodyTooLargeError, EngineNotReadyError, HttpError, to_http
from extracot_server.api.openapi import CHAT_DOCUMENTATION
from extracot_server.api.protocol import parse_chat_request, to_job
from extracot_server.api.sse import ChunkEncoder, EventStream, frames_of, wait_for_disconnect
from extracot_server.api.state import AppState, app_state
from extracot_server.detokenize import token_text
from extracot_server.engine.base import EngineDeadError, TokenLogprob
from extracot_server.jobs import ChoiceDone, Event, Finished, PreparedChat
from extracot_server.metrics import RequestTimes
from extracot_server.plan import Delta
from extracot_server.serving import ChatService

router = APIRouter()
RENDER_HERE = 32 * 1024
"""Bytes of body up to which a prompt is tokenised at once; longer ones in a thread."""


@router.post("/v1/chat/completions", **CHAT_DOCUMENTATION)
async def chat_completions(request: Request) -> Response:
    """Create a chat completion within a reasoning budget."""
    state = app_state(request)
    raw = await read_body(request, state.settings.max_body_bytes)
    times = RequestTimes()
    body = parse_chat_request(raw)
    caller = caller_of(request)
    service, alias = state.find(body.model, caller)
    if not state.engine_of(service.model.name).up:
        raise EngineNotReadyError("the engine is not up")
    job = to_job(
        body,
        request_id=request.state.request_id,
        alias=alias,
        caller=caller,
        max_messages=state.settings.max_messages,
        max_choices=state.settings.max_choices,
    )
    if len(raw) <= RENDER_HERE:
        chat = service.prepare(job, times)
    else:  # tokenising this much would make every other stream wait
        chat = await asyncio.to_thread(service.prepare, job, times)
    await service.check(chat)
    exchange = _Exchange(state, service, chat, body)
    request.state.running = True
    gone = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        return await (exchange.stream(gone) if body.stream else exchange.collect(gone))
    except BaseException:
        gone.cancel()
        raise


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


class _Exchange:
    """One request and its reply, streamed or whole."""

    def __init__(
        self,
        state: AppState,
        service: ChatService,
        chat: PreparedChat,
        body: ChatCompletionRequest,
    ) -> None:
        self._state = state
        self._service = service
        self._chat = chat
        self._show_reasoning = body.include_reasoning is not False
        self._logprobs = bool(body.logprobs)
        options = body.stream_options
        self._include_usage = bool(options and options.include_usage)
        self._reply_id = f"chatcmpl-{chat.job.request_id}"
        self._created = int(time())

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-extracot-budget": json.dumps(self._chat.header)}

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
        encoder = ChunkEncoder(
            reply_id=self._reply_id,
            created=self._created,
            model=self._service.model.name,
            include_usage=self._include_usage,
            include_reasoning=self._show_reasoning,
            logprobs=self._logprob_table if self._logprobs else None,
        )
        return EventStream(
            frames_of(_resume(first, events), encoder, self._note),
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
            return JSONResponse(collecting.result(), headers=self._headers)
        finally:
            for task in (collecting, gone):
                task.cancel()
            await asyncio.gather(collecting, gone, return_exceptions=True)

    async def _collect(self) -> dict[str, Any]:
        size = self._chat.job.n
        reasoning: list[list[str]] = [[] for _ in range(size)]
        answers: list[list[str]] = [[] for _ in range(size)]
        logprobs: list[list[TokenLogprob]] = [[] for _ in range(size)]
        done: dict[int, ChoiceDone] = {}
        end: Finished | None = None
        events = self._service.run(self._chat)
        try:
            async for event in events:
                if isinstance(event, Delta):
                    target = reasoning if event.part is Part.REASONING else answers
                    target[event.index].append(event.text)
                    logprobs[event.index].extend(event.logprobs)
                elif isinstance(event, ChoiceDone):
                    done[event.index] = event
                else:
                    end = event
        finally:
            await events.aclose()
        if end is None:
            raise EngineDeadError("the reply ended without its accounts")
        choices = [
            self._choice(done[i], "".join(reasoning[i]), "".join(answers[i]), logprobs[i])
            for i in range(size)
        ]
        return {
            "id": self._reply_id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._service.model.name,
            "choices": choices,
            "usage": end.usage.as_openai(),
            "budget": asdict(end.report),
        }

    def _choice(
        self, done: ChoiceDone, reasoning: str, answer: str, logprobs: list[TokenLogprob]
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer, "refusal": None}
        if self._show_reasoning:
            message["reasoning"] = message["reasoning_content"] = reasoning or None
        return {
            "index": done.index,
            "message": message,
            "logprobs": self._logprob_table(tuple(logprobs)) if self._logprobs else None,
            "finish_reason": done.finish_reason,
            "budget": asdict(done.report),
        }

    def _logprob_table(self, logprobs: tuple[TokenLogprob, ...]) -> dict[str, Any]:
        tokenizer = self._service.model.tools.engine.tokenizer
        rows = []
        for item in logprobs:
            row = _logprob_row(tokenizer, item.token_id, item.logprob)
            row["top_logprobs"] = [_logprob_row(tokenizer, i, lp) for i, lp in item.top]
            rows.append(row)
        return {"content": rows, "refusal": None}

    def _note(self, error: BaseException | None) -> HttpError:
        """Map an error of a running request and remember a dead engine."""
        if isinstance(error, EngineDeadError):
            self._state.engine_of(self._service.model.name).mark(False)
        return to_http(error or EngineDeadError("the engine's stream broke off"))


async def _resume(
    first: asyncio.Task[Event], events: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    """The stream again with the event that was already waited for in front."""
    try:
        yield await first
        async for event in events:
            yield event
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await events.aclose()


def _logprob_row(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    text = token_text(tokenizer, token_id)
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}
