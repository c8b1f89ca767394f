"""The three routes that generate: OpenAI's chat and Responses, Anthropic's Messages.

All take the same path to a reply; each brings its own body and its own way of writing it.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from extracot_server.api.auth import VOUCHED, principal_of
from extracot_server.api.chat import request as chat
from extracot_server.api.chat.response import ChatReply
from extracot_server.api.chat.schemas import ChatCompletion
from extracot_server.api.exchange import (
    app_state,
    chat_request_of,
    handle,
    reasoning_seal,
    tokenising,
)
from extracot_server.api.messages import request as anthropic
from extracot_server.api.messages.response import InputTokens, MessageObject, MessageWriter
from extracot_server.api.openapi.errors import ERRORS_OF_A_REPLY, AnthropicError, errors
from extracot_server.api.permits import CountRoute, ReplyRoute
from extracot_server.api.responses import request as items
from extracot_server.api.responses.held_items import held_items, with_held_items
from extracot_server.api.responses.response import ResponseWriter
from extracot_server.api.responses.schemas import ResponseObject
from extracot_server.generation.prepare import render_only

router = APIRouter(route_class=ReplyRoute)
counting = APIRouter(route_class=CountRoute)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    response_description="The reply: JSON, or server-sent events with `stream: true`",
    responses=errors(*ERRORS_OF_A_REPLY),
)
async def chat_completions(request: Request, body: chat.ChatCompletionRequest) -> Response:
    """Create a chat completion within a reasoning budget."""
    writer = partial(ChatReply, reasoning_field=app_state(request).settings.reasoning_field)
    return await handle(request, body, chat.to_chat_request, writer, stream=body.stream)


@router.post(
    "/v1/responses",
    response_model=ResponseObject,
    response_description="The response: JSON, or server-sent events with `stream: true`",
    responses=errors(*ERRORS_OF_A_REPLY),
)
async def responses(request: Request, body: items.ResponsesRequest) -> Response:
    """Create a response within a reasoning budget. Its items are held for a while, and no more."""
    state = app_state(request)
    body = with_held_items(request, body, state.settings.max_body_bytes)
    owner, seal = principal_of(request).name, reasoning_seal(request)
    # Nobody goes on from a line of a batch, and thousands of them would push out what others need.
    unheld = body.store is False or VOUCHED in request.scope
    writer = partial(
        ResponseWriter,
        hold=None if unheld else held_items(request).holder(owner),
        seal=partial(seal.seal, owner) if body.wants_sealed else None,
    )
    return await handle(request, body, items.to_chat_request, writer, stream=body.stream)


@router.post(
    "/v1/messages",
    response_model=MessageObject,
    response_description="The message: JSON, or server-sent events with `stream: true`",
    responses=errors(*ERRORS_OF_A_REPLY, body=AnthropicError),
)
async def messages(request: Request, body: anthropic.MessagesRequest) -> Response:
    """Create a message within a reasoning budget."""
    seal = partial(reasoning_seal(request).seal, principal_of(request).name)
    writer = partial(MessageWriter, seal=seal)
    return await handle(request, body, anthropic.to_chat_request, writer, stream=body.stream)


@counting.post(
    "/v1/messages/count_tokens",
    response_model=InputTokens,
    response_description="Tokens of the prompt",
    responses=errors(400, 401, 404, 413, 415, 429, 500, 503, body=AnthropicError),
)
async def count_tokens(request: Request, body: anthropic.CountRequest) -> Response:
    """How many tokens of prompt a message would have."""
    service, chat_request = chat_request_of(request, body, anthropic.to_chat_request)
    rendered = await tokenising(request, render_only, service.model, chat_request)
    return JSONResponse({"input_tokens": len(rendered.prompt_ids)})
