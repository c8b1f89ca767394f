"""``POST /v1/responses``: OpenAI's Responses API, its text subset, on the chat's own path."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from extracot_server.api.exchange import BodyRoute, handle
from extracot_server.api.openapi.errors import ERRORS_OF_A_REPLY, errors
from extracot_server.api.responses.request import ResponsesRequest, to_chat_request
from extracot_server.api.responses.response import ResponseObject, ResponseWriter

router = APIRouter(route_class=BodyRoute)


@router.post(
    "/v1/responses",
    response_model=ResponseObject,
    response_description="The response: JSON, or server-sent events with `stream: true`",
    responses=errors(*ERRORS_OF_A_REPLY),
)
async def responses(request: Request, body: ResponsesRequest) -> Response:
    """Create a response within a reasoning budget. Nothing is stored."""
    return await handle(request, body, to_chat_request, ResponseWriter, stream=body.stream)
