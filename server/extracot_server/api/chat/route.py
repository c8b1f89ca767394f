"""``POST /v1/chat/completions``: OpenAI's chat, the way in and out of one request."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from extracot_server.api.chat.request import ChatCompletionRequest, to_chat_request
from extracot_server.api.chat.response import ChatReply
from extracot_server.api.chat.schemas import ChatCompletion
from extracot_server.api.exchange import BodyRoute, handle
from extracot_server.api.openapi.errors import ERRORS_OF_A_REPLY, errors

router = APIRouter(route_class=BodyRoute)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    response_description="The reply: JSON, or server-sent events with `stream: true`",
    responses=errors(*ERRORS_OF_A_REPLY),
)
async def chat_completions(request: Request, body: ChatCompletionRequest) -> Response:
    """Create a chat completion within a reasoning budget."""
    return await handle(request, body, to_chat_request, ChatReply, stream=body.stream)
