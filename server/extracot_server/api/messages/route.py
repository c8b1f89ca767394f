"""``POST /v1/messages``: Anthropic's Messages API, its text subset, on the chat's own path."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from extracot_server.api.exchange import BodyRoute, chat_request_of, handle, tokenising
from extracot_server.api.messages.request import (
    CountRequest,
    MessagesRequest,
    to_chat_request,
    to_counted_request,
)
from extracot_server.api.messages.response import InputTokens, MessageObject, MessageWriter
from extracot_server.api.openapi.errors import ERRORS_OF_A_REPLY, AnthropicError, errors
from extracot_server.generation.prepare import render_only

router = APIRouter(route_class=BodyRoute)


@router.post(
    "/v1/messages",
    response_model=MessageObject,
    response_description="The message: JSON, or server-sent events with `stream: true`",
    responses=errors(*ERRORS_OF_A_REPLY, body=AnthropicError),
)
async def messages(request: Request, body: MessagesRequest) -> Response:
    """Create a message within a reasoning budget."""
    return await handle(request, body, to_chat_request, MessageWriter, stream=body.stream)


@router.post(
    "/v1/messages/count_tokens",
    response_model=InputTokens,
    response_description="Tokens of the prompt",
    responses=errors(400, 401, 404, 413, 500, 503, body=AnthropicError),
)
async def count_tokens(request: Request, body: CountRequest) -> Response:
    """How many tokens of prompt a message would have."""
    service, chat_request = chat_request_of(request, body, to_counted_request)
    rendered = await tokenising(request, render_only, service.model, chat_request)
    return JSONResponse({"input_tokens": len(rendered.prompt_ids)})
