"""``POST /v1/responses``: OpenAI's Responses API, its text subset, on the chat's own path."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from extracot_server.api.adapter_documentation import RESPONSES_DOCUMENTATION
from extracot_server.api.auth import caller_of
from extracot_server.api.bodies import parse_json_object, validated
from extracot_server.api.exchange import find_service, read_body, run_chat
from extracot_server.api.fields import refuse_fields, renamed
from extracot_server.api.protocol import read_chat_request, to_job
from extracot_server.api.response_input import (
    FIELDS,
    HARMLESS,
    REFUSED,
    ResponsesRequest,
    as_chat,
)
from extracot_server.api.response_output import ResponseShape
from extracot_server.api.state import app_state
from extracot_server.metrics import RequestTimes

router = APIRouter()


@router.post("/v1/responses", **RESPONSES_DOCUMENTATION)
async def responses(request: Request) -> Response:
    """Create a response within a reasoning budget. Nothing is stored."""
    settings = app_state(request).settings
    raw = await read_body(request, settings.max_body_bytes)
    times = RequestTimes()
    given = parse_json_object(raw)
    refuse_fields(given, ResponsesRequest.model_fields, REFUSED, HARMLESS)
    body = validated(ResponsesRequest, given)
    ignored = tuple(sorted(key[:64] for key in body.model_extra or {}))
    chat_body, origins = as_chat(body)
    with renamed(FIELDS, origins):
        service, alias = find_service(request, body.model)
        job = to_job(
            read_chat_request(chat_body),
            request_id=request.state.request_id,
            alias=alias,
            caller=caller_of(request),
            max_messages=settings.max_messages,
            max_choices=1,
            ignored_fields=ignored,
        )
        return await run_chat(
            request,
            service,
            job,
            lambda chat: ResponseShape(chat, body),
            times=times,
            body_size=len(raw),
            stream=bool(body.stream),
        )
