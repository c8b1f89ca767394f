"""Errors in the OpenAPI document: what each status means, its headers and its possible bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from extracot_server.admission.quotas import Period, Quota
from extracot_server.admission.scheduler import Refusal, RefusedError
from extracot_server.api.body import ReplyModel
from extracot_server.api.errors import (
    BodyTooLargeError,
    ConflictError,
    EncodedBodyError,
    EngineNotReadyError,
    ForbiddenError,
    InvalidKeyError,
    anthropic_body,
    to_http,
)
from extracot_server.batches.records import FileTooLargeError
from extracot_server.engine.base import EngineBusyError, EngineRefusedError, ReplyLostError
from extracot_server.errors import (
    BudgetError,
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
)
from extracot_server.ledger.meter import QuotaError, Standing, StoreLostError

_QUOTA = Standing(
    Quota("key chat-app", "tokens", 100_000, Period.DAY), left=1200, resets=1_764_460_800
)
ERRORS_OF_A_REPLY = (400, 401, 402, 403, 404, 409, 413, 415, 429, 451, 500, 502, 503)
"""What a request for a reply can be refused with."""
_RETRY_AFTER = {
    "description": "whole seconds to wait",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}
RATE_LIMITS: Mapping[str, Any] = {
    f"x-ratelimit-{what}-{kind}": {
        "description": f"{text}; only for keys with a quota of {kind}",
        "required": False,
        "schema": {"type": "string"},
    }
    for kind in ("requests", "tokens")
    for what, text in (
        ("limit", f"{kind} that the quota allows"),
        ("remaining", f"{kind} that are left of it"),
        ("reset", "time until it begins anew, like `6m0s`"),
    )
}
"""OpenAI's fields, as replies and refusals of keys with quotas have them."""
_CHALLENGE = {"required": True, "schema": {"const": "Bearer"}}
_BEHIND = "A server that is no vLLM, behind the model, refused the request"
_TEXTS = {
    400: "The request is invalid; `param` names the field, `message` lists what is allowed",
    401: "No key, or a wrong one",
    402: f"{_BEHIND} for want of credit",
    403: "This key may not do that; of a reply: the server behind the model may not",
    404: "No model of that name, or none for this key",
    409: "It does not go with how things stand; `message` says what does",
    413: "The body is too large",
    415: "The body is compressed, which is not supported (and `Accept-Encoding` says so)",
    429: "This key has sent too many requests, or a quota of it leaves no room for this one",
    451: f"{_BEHIND} for legal reasons",
    500: "The server failed",
    502: f"{_BEHIND} with another status, which `message` names",
    503: "The queue is full, the server is stopping, or the engine or the usage store is not "
    "available",
}
_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": _CHALLENGE},
    415: {"Accept-Encoding": {"required": False, "schema": {"const": "identity"}}},
    429: {"Retry-After": _RETRY_AFTER, **RATE_LIMITS},
    503: {"Retry-After": _RETRY_AFTER},
}


def _refused(status: int, words: str = "") -> EngineRefusedError:
    """What :mod:`extracot_server.engine.remote.failures` makes of it."""
    what = f"The server behind this model refused the request with status {status}"
    return EngineRefusedError(f"{what}: {words}" if words else f"{what}.", status=status)


_ERRORS: Mapping[int, Mapping[str, BaseException]] = {
    400: {
        "budget": BudgetError(
            '`budget` is 1.2. Allowed: a number in (0, 1], "auto", "native", "none", or an object '
            "with `ratio`, `max_reasoning_tokens` and `enforce`.",
            param="budget",
        ),
        "missing": InvalidRequestError(
            "`messages` is missing.", param="messages", code="missing_required_parameter"
        ),
        "unsupported": InvalidRequestError(
            "`audio` is not supported by this server.", param="audio", code="unsupported_parameter"
        ),
        "too_long": ContextLengthError(5000, 4096),
        "json": InvalidRequestError("The body must be a JSON object.", code="invalid_json"),
    },
    401: {"missing": InvalidKeyError(missing=True), "wrong": InvalidKeyError(missing=False)},
    402: {"upstream": _refused(402, "Insufficient credits.")},
    403: {"usage": ForbiddenError("`key`: this key may see its own usage only.", param="key")},
    404: {"model": ModelNotFoundError("gpt-4o", ["scripted"])},
    409: {"last": ConflictError("gpu-1 is the last upstream that new requests can go to.")},
    413: {"body": BodyTooLargeError(4 * 2**20), "file": FileTooLargeError(200 * 2**20)},
    415: {"gzip": EncodedBodyError("content-encoding", "gzip")},
    451: {"upstream": _refused(451, "Not available in your country.")},
    429: {
        "rate": RefusedError(Refusal.RATE, 17, 60),
        "concurrency": RefusedError(Refusal.CONCURRENCY, 2, 4),
        "quota": QuotaError(_QUOTA, 2000, 1_764_460_000, [_QUOTA]),
    },
    500: {"failed": RuntimeError(), "lost": ReplyLostError("an upstream failed")},
    502: {"upstream": _refused(405)},
    503: {
        "queue": RefusedError(Refusal.QUEUE_FULL, 9),
        "stopping": RefusedError(Refusal.STOPPING),
        "engine": EngineNotReadyError("the engine is not up"),
        "usage": StoreLostError(),
        "busy": EngineBusyError("busy", retry_after=3),
    },
}


class ErrorObject(ReplyModel):
    """The error."""

    message: str
    type: str
    param: str | None = Field(description="the invalid field")
    code: str | None = Field(description="one of a fixed list")


class Error(ReplyModel):
    """OpenAI's error body."""

    error: ErrorObject


class AnthropicErrorDetail(ReplyModel):
    """The error; its message names the field."""

    type: str
    message: str
    details: dict[str, Any] | None = Field(
        None, description="only where Anthropic's SDKs act on it: `error_code`"
    )


class AnthropicError(ReplyModel):
    """An error in Anthropic's form."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None


def errors(*statuses: int, body: type[ReplyModel] = Error) -> dict[int | str, dict[str, Any]]:
    """FastAPI's ``responses`` of a route for these errors."""
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {
        status: {
            "description": _TEXTS[status],
            "headers": _HEADERS.get(status, {}),
            "content": {"application/json": {"schema": schema}},
        }
        for status in statuses
    }


def error_examples(status: int, *, anthropic: bool) -> dict[str, Any]:
    """OpenAPI's examples of the bodies that an error may have, by name."""
    found = {name: to_http(error) for name, error in _ERRORS[status].items()}
    return {
        name: {
            "value": {**anthropic_body(error), "request_id": "req-1"} if anthropic else error.body
        }
        for name, error in found.items()
    }
