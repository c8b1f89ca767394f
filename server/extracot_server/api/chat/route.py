"""``POST /v1/chat/completions``: OpenAI's chat, the way in and out of one request."""

from __future__ import annotations

from time import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from extracot.prompt import Tokenizer
from extracot_server.api.auth import principal_of
from extracot_server.api.chat.body import ChatCompletionRequest
from extracot_server.api.chat.request import parse_chat_request, to_chat_request
from extracot_server.api.chat.response import ChunkEncoder
from extracot_server.api.exchange import (
    Choice,
    WholeReply,
    app_state,
    find_service,
    read_body,
    run_chat,
)
from extracot_server.api.openapi.routes import CHAT_DOCUMENTATION
from extracot_server.engine.base import EngineDeadError, TokenLogprob
from extracot_server.generation.detokenize import token_text
from extracot_server.generation.request import PreparedChat, RequestTimes

router = APIRouter()


@router.post("/v1/chat/completions", **CHAT_DOCUMENTATION)
async def chat_completions(request: Request) -> Response:
    """Create a chat completion within a reasoning budget."""
    settings = app_state(request).settings
    raw = await read_body(request, settings.max_body_bytes)
    times = RequestTimes()
    body = parse_chat_request(raw)
    service, alias = find_service(request, body.model)
    chat_request = to_chat_request(
        body,
        request_id=request.state.request_id,
        alias=alias,
        principal=principal_of(request),
        max_messages=settings.max_messages,
        max_choices=settings.max_choices,
    )
    return await run_chat(
        request,
        service,
        chat_request,
        lambda chat: ChatShape(chat, body),
        times=times,
        body_size=len(raw),
        stream=bool(body.stream),
    )


class ChatShape:
    """A chat completion, whole or in chunks."""

    def __init__(self, chat: PreparedChat, body: ChatCompletionRequest) -> None:
        self._model = chat.model
        self._show_reasoning = body.include_reasoning is not False
        self._logprobs = bool(body.logprobs)
        options = body.stream_options
        self._include_usage = bool(options and options.include_usage)
        self._reply_id = f"chatcmpl-{chat.request.request_id}"
        self._created = int(time())

    def encoder(self) -> ChunkEncoder:
        """See :class:`~extracot_server.api.exchange.Shape`."""
        return ChunkEncoder(
            reply_id=self._reply_id,
            created=self._created,
            model=self._model.name,
            include_usage=self._include_usage,
            include_reasoning=self._show_reasoning,
            logprobs=self._logprob_table if self._logprobs else None,
        )

    def whole(self, reply: WholeReply) -> dict[str, Any]:
        """See :class:`~extracot_server.api.exchange.Shape`."""
        return {
            "id": self._reply_id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model.name,
            "choices": [self._choice(choice) for choice in reply.choices],
            "usage": reply.end.usage.as_openai(),
            "budget": reply.end.report.as_object(),
        }

    def _choice(self, choice: Choice) -> dict[str, Any]:
        done = choice.done
        if done is None:
            raise EngineDeadError("a reply ended without its accounts")
        content = choice.answer if choice.answer or not choice.calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._show_reasoning:
            message["reasoning"] = message["reasoning_content"] = choice.reasoning or None
        if choice.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in choice.calls
            ]
        logprobs = self._logprob_table(tuple(choice.logprobs)) if self._logprobs else None
        return {
            "index": done.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": done.finish_reason,
            "budget": done.report.as_object(),
        }

    def _logprob_table(self, logprobs: tuple[TokenLogprob, ...]) -> dict[str, Any]:
        tokenizer = self._model.runtime.engine.tokenizer
        rows = []
        for item in logprobs:
            row = _logprob_row(tokenizer, item.token_id, item.logprob)
            row["top_logprobs"] = [_logprob_row(tokenizer, i, lp) for i, lp in item.top]
            rows.append(row)
        return {"content": rows, "refusal": None}


def _logprob_row(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    text = token_text(tokenizer, token_id)
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}
