"""The Responses and the Messages API in the OpenAPI document: bodies, replies, errors, examples.

Describes what this server takes and sends; what the fields are for is their own documents' to say.
"""

from __future__ import annotations

from typing import Any

from extracot_server.api.errors import anthropic_type
from extracot_server.api.openapi.adapter_examples import BODIES, EVENTS, REPLIES
from extracot_server.api.openapi.routes import (
    BUDGET_HEADER,
    body,
    error_responses,
    reference,
    reply,
)

_CALLED = (400, 401, 404, 413, 429, 500, 503)


def _request(name: str) -> dict[str, Any]:
    described = body(reference(name))
    content = described["requestBody"]["content"]["application/json"]
    content["examples"] = {key: {"value": value} for key, value in BODIES[name].items()}
    return described


def _reply(text: str, shape: str, events: str = "") -> dict[str, Any]:
    """A reply, and where there are events a stream of them."""
    streamed, headers = {}, None
    if events:
        stream = {"schema": _event(events), "examples": {"an event": {"value": EVENTS[shape]}}}
        streamed, headers = {"text/event-stream": stream}, {"x-extracot-budget": BUDGET_HEADER}
    described = reply(text, shape, headers=headers, **streamed)
    content = described["content"]["application/json"]
    content["examples"] = {"a reply": {"value": REPLIES[shape]}}
    return described


def _event(text: str) -> dict[str, Any]:
    """The schema of one event, as for the chat's streams."""
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "description": "the event's name again"}},
        },
    }
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"type": "string"}, "data": data},
        "description": text,
    }


def _anthropic_errors(*statuses: int) -> dict[int | str, Any]:
    """The errors of every endpoint in Anthropic's form."""
    found = error_responses(*statuses)
    for status, response in found.items():
        content = response["content"]["application/json"]
        content["schema"] = reference("AnthropicError")
        for example in content["examples"].values():
            message = example["value"]["error"]["message"]
            error = {"type": anthropic_type(int(status)), "message": message}
            example["value"] = {"type": "error", "error": error, "request_id": "req-1"}
    return found


RESPONSES_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": _request("ResponsesRequest"),
    "responses": {
        200: _reply(
            "The response: JSON, or server-sent events with `stream: true`",
            "ResponseObject",
            "the events of OpenAI's Responses API, numbered from 0, from `response.created` to "
            "`response.completed`, `response.incomplete` or `response.failed`",
        ),
        **error_responses(*_CALLED),
    },
}
MESSAGES_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": _request("MessagesRequest"),
    "responses": {
        200: _reply(
            "The message: JSON, or server-sent events with `stream: true`",
            "MessageObject",
            "the events of Anthropic's Messages API, from `message_start` to `message_stop`, or to "
            "an `error`",
        ),
        **_anthropic_errors(*_CALLED),
    },
}
COUNT_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": _request("CountRequest"),
    "responses": {
        200: _reply("Tokens of the prompt", "InputTokens"),
        **_anthropic_errors(400, 401, 404, 413, 500, 503),
    },
}
