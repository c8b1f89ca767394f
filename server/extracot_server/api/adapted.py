"""Another API's body on its way to a chat: what every adapter does once its body is a chat's.

Knows no API in particular.
"""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import Request

from extracot_server.api.auth import principal_of
from extracot_server.api.chat.request import read_chat_request, to_chat_request
from extracot_server.api.exchange import app_state, find_service
from extracot_server.generation.request import ChatRequest
from extracot_server.generation.service import ChatService


class AdaptedBody(Protocol):
    """What is read of an adapter's own body."""

    model: str | None

    @property
    def model_extra(self) -> dict[str, Any] | None:
        """Fields that the API does not have."""


def adapted_request(
    request: Request, body: AdaptedBody, chat_body: dict[str, Any]
) -> tuple[ChatService, ChatRequest]:
    """Who serves ``body.model``, and the chat that ``chat_body`` asks for.

    Raises what :func:`~extracot_server.api.exchange.find_service` and the chat's own checks raise.
    """
    service, alias = find_service(request, body.model)
    chat_request = to_chat_request(
        read_chat_request(chat_body),
        request_id=request.state.request_id,
        alias=alias,
        principal=principal_of(request),
        max_messages=app_state(request).settings.max_messages,
        max_choices=1,
        ignored_fields=tuple(sorted(key[:64] for key in body.model_extra or {})),
    )
    return service, chat_request
