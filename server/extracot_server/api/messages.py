"""``POST /v1/messages``: Anthropic's Messages API, its text subset, on the chat's own path."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from extracot_server.api.adapted import adapted_job
from extracot_server.api.adapter_documentation import COUNT_DOCUMENTATION, MESSAGES_DOCUMENTATION
from extracot_server.api.bodies import parse_json_object, validated
from extracot_server.api.exchange import read_body, run_chat, tokenising
from extracot_server.api.fields import refuse_fields, renamed
from extracot_server.api.message_input import (
    FIELDS,
    HARMLESS,
    REFUSED,
    CountRequest,
    MessagesRequest,
    as_chat,
)
from extracot_server.api.message_output import message_shape
from extracot_server.api.state import app_state
from extracot_server.metrics import RequestTimes
from extracot_server.preparation import render_only

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
        service, job = adapted_job(request, body, chat_body)
        return await run_chat(
            request,
            service,
            job,
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
        service, job = adapted_job(request, body, chat_body)
        rendered = await tokenising(len(raw), render_only, service.model, job)
    return {"input_tokens": len(rendered.prompt_ids)}
