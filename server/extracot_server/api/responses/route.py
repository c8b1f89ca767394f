"""``POST /v1/responses``: OpenAI's Responses API, its text subset, on the chat's own path."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from extracot_server.api.adapted import adapted_request
from extracot_server.api.chat.body import parse_json_object, validated
from extracot_server.api.exchange import app_state, read_body, run_chat
from extracot_server.api.fields import refuse_fields, renamed
from extracot_server.api.openapi.adapter_routes import RESPONSES_DOCUMENTATION
from extracot_server.api.responses.request import (
    FIELDS,
    HARMLESS,
    REFUSED,
    ResponsesRequest,
    as_chat,
)
from extracot_server.api.responses.response import response_shape
from extracot_server.generation.request import RequestTimes

router = APIRouter()


@router.post("/v1/responses", **RESPONSES_DOCUMENTATION)
async def responses(request: Request) -> Response:
    """Create a response within a reasoning budget. Nothing is stored."""
    raw = await read_body(request, app_state(request).settings.max_body_bytes)
    times = RequestTimes()
    given = parse_json_object(raw)
    refuse_fields(given, ResponsesRequest.model_fields, REFUSED, HARMLESS)
    body = validated(ResponsesRequest, given)
    chat_body, origins = as_chat(body)
    with renamed(FIELDS, origins):
        service, chat_request = adapted_request(request, body, chat_body)
        return await run_chat(
            request,
            service,
            chat_request,
            lambda chat: response_shape(chat, body),
            times=times,
            body_size=len(raw),
            stream=bool(body.stream),
        )
