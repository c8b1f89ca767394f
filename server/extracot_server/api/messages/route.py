"""``POST /v1/messages``: Anthropic's Messages API, its text subset, on the chat's own path."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from extracot_server.api.adapted import adapted_request
from extracot_server.api.chat.body import parse_json_object, validated
from extracot_server.api.exchange import app_state, read_body, run_chat, tokenising
from extracot_server.api.fields import refuse_fields, renamed
from extracot_server.api.messages.request import (
    FIELDS,
    HARMLESS,
    REFUSED,
    CountRequest,
    MessagesRequest,
    as_chat,
)
from extracot_server.api.messages.response import message_shape
from extracot_server.api.openapi.adapter_routes import COUNT_DOCUMENTATION, MESSAGES_DOCUMENTATION
from extracot_server.generation.prepare import render_only
from extracot_server.generation.request import RequestTimes

router = APIRouter()


@router.post("/v1/messages", **MESSAGES_DOCUMENTATION)
async def messages(request: Request) -> Response:
    """Create a message within a reasoning budget."""
    raw = await read_body(request, app_state(request).settings.max_body_bytes)
    times = RequestTimes()
    given = parse_json_object(raw)
    refuse_fields(given, MessagesRequest.model_fields, REFUSED, HARMLESS)
    body = validated(MessagesRequest, given)
    chat_body, origins = as_chat(body)
    with renamed(FIELDS, origins):
        service, chat_request = adapted_request(request, body, chat_body)
        return await run_chat(
            request,
            service,
            chat_request,
            lambda chat: message_shape(chat, body),
            times=times,
            body_size=len(raw),
            stream=bool(body.stream),
        )


@router.post("/v1/messages/count_tokens", **COUNT_DOCUMENTATION)
async def count_tokens(request: Request) -> dict[str, int]:
    """How many tokens of prompt a message would have."""
    raw = await read_body(request, app_state(request).settings.max_body_bytes)
    given = parse_json_object(raw)
    refuse_fields(given, MessagesRequest.model_fields, REFUSED, HARMLESS)
    body = validated(CountRequest, given)
    chat_body, origins = as_chat(body)
    with renamed(FIELDS, origins):
        service, chat_request = adapted_request(request, body, chat_body)
        rendered = await tokenising(len(raw), render_only, service.model, chat_request)
    return {"input_tokens": len(rendered.prompt_ids)}
