"""The Responses and the Messages API in the OpenAPI document: bodies, replies, errors, examples.

Describes what this server takes and sends; what the fields are for is their own documents' to say.
"""

from __future__ import annotations

from typing import Any

from extracot_server.api.documentation import BUDGET_HEADER, body, error_responses, reference, reply
from extracot_server.api.errors import anthropic_type

_CALLED = (400, 401, 404, 413, 429, 500, 503)
_QUESTION = "What is 12 * 3 + 4?"
_RESPONSE_BODIES = {
    "an effort": {"input": _QUESTION, "reasoning": {"effort": "low"}},
    "a ratio": {"input": _QUESTION, "instructions": "Be brief.", "budget": 0.2},
}
_MESSAGES = [{"role": "user", "content": _QUESTION}]
_MESSAGE_BODIES = {
    "a hard cap": {
        "max_tokens": 2048,
        "messages": _MESSAGES,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    },
    "a ratio": {"max_tokens": 2048, "messages": _MESSAGES, "budget": 0.2},
}


def _request(name: str, examples: dict[str, Any]) -> dict[str, Any]:
    described = body(reference(name))
    content = described["requestBody"]["content"]["application/json"]
    content["examples"] = {key: {"value": value} for key, value in examples.items()}
    return described


def _events(text: str) -> dict[str, Any]:
    return {"text/event-stream": {"schema": {"type": "string", "description": text}}}


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
    "openapi_extra": _request("ResponsesRequest", _RESPONSE_BODIES),
    "responses": {
        200: reply(
            "The response: JSON, or server-sent events with `stream: true`",
            "ResponseObject",
            headers={"x-extracot-budget": BUDGET_HEADER},
            **_events(
                "the events of OpenAI's Responses API, numbered from 0, from `response.created` to "
                "`response.completed`, `response.incomplete` or `response.failed`"
            ),
        ),
        **error_responses(*_CALLED),
    },
}
MESSAGES_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": _request("MessagesRequest", _MESSAGE_BODIES),
    "responses": {
        200: reply(
            "The message: JSON, or server-sent events with `stream: true`",
            "MessageObject",
            headers={"x-extracot-budget": BUDGET_HEADER},
            **_events("the events of Anthropic's Messages API, `message_start` to `message_stop`"),
        ),
        **_anthropic_errors(*_CALLED),
    },
}
COUNT_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": _request("CountRequest", {"a question": {"messages": _MESSAGES}}),
    "responses": {
        200: reply("Tokens of the prompt", "InputTokens"),
        **_anthropic_errors(400, 401, 404, 413, 500, 503),
    },
}
