"""What each route says of itself in the OpenAPI document: bodies, replies, errors, with examples.

Bodies are parsed by hand, so FastAPI can't see them. Knows shapes and errors, and handles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import PlainTextResponse

from extracot_server.admission.scheduler import Refusal, RefusedError
from extracot_server.api.errors import (
    BodyTooLargeError,
    EngineNotReadyError,
    HttpError,
    InvalidKeyError,
    to_http,
)
from extracot_server.api.openapi.examples import EXAMPLES
from extracot_server.engine.base import EngineBusyError, ReplyLostError
from extracot_server.errors import (
    BudgetError,
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
)

REF = "#/components/schemas/{model}"
_REQUEST_ID = {
    "description": "the client's own `x-request-id` where it is sane, else a new one",
    "required": True,
    "schema": {"type": "string"},
}
_RETRY_AFTER = {
    "description": "whole seconds to wait",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}
_CHALLENGE = {"required": True, "schema": {"const": "Bearer"}}
BUDGET_HEADER = {
    "description": "JSON: what is known of the budget before the first token",
    "required": True,
    "schema": {"type": "string"},
}
_TEXTS = {
    400: "The request is wrong; `param` names the field, `message` lists what is allowed",
    401: "No key, or a wrong one",
    404: "No model of that name, or none for this key",
    413: "The body is too large",
    429: "This key has sent too many",
    500: "The server failed",
    503: "The queue is full, the server is stopping, or the engine is not available",
}
_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": _CHALLENGE},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}
_ERRORS: Mapping[int, Mapping[str, BaseException]] = {
    400: {
        "budget": BudgetError(
            '`budget` is 1.2. Allowed: a number in (0, 1], "auto", "native", "none", or an object '
            "with `ratio`, `max_reasoning_tokens` and `enforce`.",
            param="budget",
        ),
        "missing": InvalidRequestError(
            "`messages`: Field required.", param="messages", code="missing_required_parameter"
        ),
        "unsupported": InvalidRequestError(
            "`audio` is not supported by this server.", param="audio", code="unsupported_parameter"
        ),
        "too_long": ContextLengthError(5000, 4096),
        "json": InvalidRequestError("The body must be a JSON object.", code="invalid_json"),
    },
    401: {"missing": InvalidKeyError(missing=True), "wrong": InvalidKeyError(missing=False)},
    404: {"model": ModelNotFoundError("gpt-4o", ["scripted"])},
    413: {"body": BodyTooLargeError(4 * 2**20)},
    429: {
        "rate": RefusedError(Refusal.RATE, 17, 60),
        "concurrency": RefusedError(Refusal.CONCURRENCY, 2, 4),
    },
    500: {"failed": RuntimeError(), "lost": ReplyLostError("an upstream is gone")},
    503: {
        "queue": RefusedError(Refusal.QUEUE_FULL, 9),
        "stopping": RefusedError(Refusal.STOPPING),
        "engine": EngineNotReadyError("the engine is not up"),
        "busy": EngineBusyError("busy", retry_after=3),
    },
}


def error_responses(*statuses: int) -> dict[int | str, Any]:
    """OpenAPI's responses for these errors, each with the bodies it may have."""
    return {status: _error_response(status) for status in statuses}


def _error_response(status: int) -> dict[str, Any]:
    named: dict[str, HttpError] = {name: to_http(e) for name, e in _ERRORS[status].items()}
    return {
        "description": _TEXTS[status],
        "headers": {"x-request-id": _REQUEST_ID, **_HEADERS.get(status, {})},
        "content": {
            "application/json": {
                "schema": reference("Error"),
                "examples": {name: {"value": error.body} for name, error in named.items()},
            }
        },
    }


def reference(name: str) -> dict[str, str]:
    """A schema of the document by its name."""
    return {"$ref": REF.format(model=name)}


def reply(
    text: str, shape: str, *examples: str, headers: Mapping[str, Any] | None = None, **other: Any
) -> dict[str, Any]:
    """OpenAPI's response for a JSON reply; ``examples`` are names in :mod:`.examples`."""
    shown = {name: {"value": EXAMPLES[name]} for name in examples}
    json_type = {"schema": reference(shape), **({"examples": shown} if shown else {})}
    return {
        "description": text,
        "headers": {"x-request-id": _REQUEST_ID, **(headers or {})},
        "content": {"application/json": json_type, **other},
    }


def event_stream(chunk: str, example: str) -> dict[str, Any]:
    """OpenAPI's content for a stream; as is usual before OpenAPI 3.2, the schema is of an event."""
    event = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {
                "type": "string",
                "anyOf": [
                    {
                        "contentMediaType": "application/json",
                        "contentSchema": {"anyOf": [reference(chunk), reference("Error")]},
                    },
                    {"const": "[DONE]"},
                ],
            }
        },
        "description": "One event. An error is followed by `[DONE]` alone, which ends every "
        "stream; while nothing comes, comments (lines that begin with `:`) do",
    }
    return {"schema": event, "examples": {"a stream": {"value": EXAMPLES[example]}}}


def body(schema: Mapping[str, Any], *examples: str) -> dict[str, Any]:
    """OpenAPI's request body, for a route that reads its body itself."""
    shown = {name: {"value": EXAMPLES[name]} for name in examples}
    content = {"application/json": {"schema": schema, "examples": shown}}
    return {"requestBody": {"required": True, "content": content}}


CHAT_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": body(
        reference("ChatCompletionRequest"), "a ratio", "a stream", "a ceiling", "json"
    ),
    "responses": {
        200: reply(
            "The reply: JSON, or server-sent events with `stream: true`",
            "ChatCompletion",
            "a reply",
            headers={"x-extracot-budget": BUDGET_HEADER},
            **{"text/event-stream": event_stream("ChatCompletionChunk", "events")},
        ),
        **error_responses(400, 401, 404, 413, 429, 500, 503),
    },
}
_TEXT_TO_TOKENIZE = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "model": {"type": ["string", "null"], "description": "a served model's own name"},
        "prompt": {"type": "string", "description": "text as it is inside a message"},
        **{name: {"type": "null"} for name in ("messages", "budget", "reasoning_effort")},
    },
}
TOKENIZE_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": body(
        {"anyOf": [reference("ChatCompletionRequest"), _TEXT_TO_TOKENIZE]}, "a ratio", "a text"
    ),
    "responses": {
        200: reply("Token ids", "Tokens", "ids"),
        **error_responses(400, 401, 404, 413, 500),
    },
}
MODELS_DOCUMENTATION: dict[str, Any] = {
    "responses": {200: reply("All of them", "ModelList"), **error_responses(401, 500)}
}
MODEL_DOCUMENTATION: dict[str, Any] = {
    "responses": {200: reply("It", "ModelEntry", "a model"), **error_responses(401, 404, 500)}
}
BUDGET_DOCUMENTATION: dict[str, Any] = {
    "responses": {
        200: reply("Card, policy, baseline, measured saving", "BudgetInformation", "what it saves"),
        **error_responses(400, 401, 404, 500),
    }
}
HEALTH_DOCUMENTATION: dict[str, Any] = {"responses": {200: reply("It answers", "Status", "alive")}}
READY_DOCUMENTATION: dict[str, Any] = {
    "responses": {
        200: reply("An engine serves, or the named model's does", "Readiness", "ready"),
        503: reply("None does", "Readiness", "down"),
        **error_responses(404),
    }
}
METRICS_DOCUMENTATION: dict[str, Any] = {
    "response_class": PlainTextResponse,
    "responses": {
        200: {
            "description": "Prometheus' text format",
            "headers": {"x-request-id": _REQUEST_ID},
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "examples": {"some": {"value": EXAMPLES["metrics"]}},
                }
            },
        },
        **error_responses(401),
    },
}
