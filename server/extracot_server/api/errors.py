"""The only place where exceptions become HTTP: status, headers, OpenAI's body or Anthropic's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from extracot.errors import ExtracotError, PromptError
from extracot_server.admission.scheduler import Refusal, RefusedError
from extracot_server.batches.records import (
    FileNotFoundInStoreError,
    FileTooLargeError,
    StorageError,
)
from extracot_server.engine.base import (
    EngineBusyError,
    EngineClosedError,
    EngineDeadError,
    EngineRefusedError,
    EngineRequestError,
    FormatNotKeptError,
    ReplyLostError,
)
from extracot_server.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    encodable,
)
from extracot_server.ledger.meter import QuotaError, Standing
from extracot_server.ledger.windows import span


@dataclass(frozen=True, slots=True)
class HttpError:
    """An error as it goes over the wire."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] | None = None
    """What Anthropic's SDKs read of an error."""

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": encodable(self.message),
                "type": self.type,
                "param": None if self.param is None else encodable(self.param),
                "code": self.code,
            }
        }

    @property
    def reason(self) -> str:
        """The bounded value of the ``reason`` label of ``extracot_rejected_total``."""
        return self.code or self.type


_ANTHROPIC_TYPES = {  # Anthropic's word for a kind of error
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    451: "permission_error",
    503: "overloaded_error",
}


def anthropic_body(error: HttpError) -> dict[str, Any]:
    """The error as Anthropic's API has it; the message names the field."""
    kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
    # A place inside of the field names the field only in passing.
    named = error.param is None or re.search(rf"{re.escape(error.param)}(?![\w.\[])", error.message)
    message = encodable(error.message if named else f"{error.param}: {error.message}")
    told: dict[str, Any] = {"type": kind, "message": message}
    if error.details is not None:
        told["details"] = dict(error.details)
    return {"type": "error", "error": told}


def no_such_path(method: str, path: str, known: Collection[str]) -> str:
    """The message of a 404 for a path; it names the one of ``known`` that was probably meant.

    >>> no_such_path("POST", "/chat/completions", ["/v1/models", "/v1/chat/completions"])
    'Not Found: POST /chat/completions. Did you mean /v1/chat/completions?'
    """
    text = f"Not Found: {method} {path[:200]}"
    if path.startswith("/playground"):
        return f"{text}. For the playground start the server with --playground true."
    meant = path.rstrip("/")
    around = [one for one in known if one.endswith(meant) or meant.endswith(one)]
    around += [one for one in known if meant.startswith(f"{one}/")]
    near = around or difflib.get_close_matches(meant[:200], known, n=1, cutoff=0.75)
    return f"{text}. Did you mean {max(near, key=len)}?" if meant and near else text


def speaks_anthropic(path: str) -> bool:
    """Whether a path belongs to Anthropic's API."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


_INVALID = "invalid_request_error"


class ErrorReply(JSONResponse):
    """An error as a response, in the form of the API that was used."""

    def __init__(self, error: HttpError) -> None:
        super().__init__(error.body, error.status, headers=dict(error.headers))
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if not speaks_anthropic(scope.get("path", "")):
            await super().__call__(scope, receive, send)
            return
        error = self._error
        body = anthropic_body(error) | {"request_id": scope.get("state", {}).get("request_id")}
        reply = JSONResponse(body, error.status, headers=dict(error.headers))
        await reply(scope, receive, send)


class BodyTooLargeError(InvalidRequestError):
    """The body is larger than the server reads."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than {limit} bytes.", code="request_too_large"
        )


class EncodedBodyError(InvalidRequestError):
    """The body is compressed, which this server does not read."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(
            f"The request body is encoded (`{field}: {value[:40]}`); send it as plain JSON, "
            f"without `{field}`.",
            code="unsupported_content_encoding",
        )


class ForbiddenError(InvalidRequestError):
    """The key may not do this."""


class ConflictError(InvalidRequestError):
    """What is asked for does not go with how things stand."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="conflict")


class UnknownUpstreamError(InvalidRequestError):
    """No upstream has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        there = ", ".join(known[:20]) or "none: the engine is not remote"
        super().__init__(f"There is no upstream {name[:128]}; there are: {there}.", param="name")


class InvalidKeyError(ExtracotError):
    """No key, or an unknown one."""

    def __init__(self, *, missing: bool) -> None:
        super().__init__(
            "No API key was given: send it as `Authorization: Bearer KEY`."
            if missing
            else "Incorrect API key provided."
        )


class EngineNotReadyError(EngineDeadError):
    """The engine is down or not up yet."""


def to_http(error: BaseException) -> HttpError:
    """Map any exception; an unexpected one is a 500 without details."""
    match error:
        case ModelNotFoundError():
            return _invalid(404, error, kind="not_found_error")
        case ForbiddenError():
            return _invalid(403, error, kind="permission_error")
        case ConflictError():
            return _invalid(409, error)
        case UnknownUpstreamError():
            return _invalid(404, error, kind="not_found_error")
        case FileNotFoundInStoreError():
            return _invalid(404, error, kind="not_found_error")
        case StorageError():
            return _later(503, str(error), "storage_failed", 60)
        case BodyTooLargeError() | FileTooLargeError():
            return _invalid(413, error)
        case EncodedBodyError():
            return replace(_invalid(415, error), headers={"Accept-Encoding": "identity"})
        case ContextLengthError() | InvalidRequestError():
            return _invalid(400, error)
        case PromptError():
            return HttpError(400, str(error), _INVALID, error.field, "invalid_value")
        case EngineRefusedError():
            return _refused(error)
        case EngineRequestError():
            return HttpError(400, str(error), _INVALID, error.param, error.code)
        case QuotaError():
            refused = _later(429, str(error), str(error.reason), error.retry_after)
            limits = rate_limit_headers(error.standings, error.at)
            return replace(refused, headers={**refused.headers, **limits})
        case RefusedError():
            crowded = error.reason in (Refusal.QUEUE_FULL, Refusal.STOPPING, Refusal.NO_STORE)
            return _later(503 if crowded else 429, str(error), str(error.reason), error.retry_after)
        case InvalidKeyError():
            challenge = {"WWW-Authenticate": "Bearer"}
            return HttpError(401, str(error), _INVALID, code="invalid_api_key", headers=challenge)
        case EngineBusyError():
            text = "The servers behind this one are busy; try again later."
            return _later(503, text, "engine_busy", error.retry_after)
        case FormatNotKeptError():
            return HttpError(500, str(error), "server_error", error.param, "reply_lost")
        case ReplyLostError():
            text = "The server that wrote this reply failed in the middle; send the request again."
            return HttpError(500, text, "server_error", code="reply_lost")
        case EngineClosedError():
            return to_http(RefusedError(Refusal.STOPPING))
        case EngineDeadError():
            text = "The engine is not available; try again shortly."
            return _later(503, text, "engine_unavailable", 5)
        case _:
            text = "The server failed on this request."
            return HttpError(500, text, "server_error", code="internal_error")


def rate_limit_headers(standings: Sequence[Standing], now: float) -> dict[str, str]:
    """OpenAI's fields: limit, remaining and reset, of the quota of each kind with the least left.

    Empty without quotas.
    """
    fields = {}
    for kind in ("requests", "tokens"):
        found = [standing for standing in standings if standing.quota.kind == kind]
        if found:
            least = min(found, key=lambda standing: standing.left)
            fields[f"x-ratelimit-limit-{kind}"] = str(least.quota.limit)
            fields[f"x-ratelimit-remaining-{kind}"] = str(least.left)
            fields[f"x-ratelimit-reset-{kind}"] = span(least.resets - now)
    return fields


_TOLD = {
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: _INVALID,
    415: _INVALID,
    451: _INVALID,
}
"""What an upstream says of a request that its client may be told as it is, and the type of it."""


def _refused(error: EngineRefusedError) -> HttpError:
    """An upstream's refusal; one that says nothing of the request is a gateway's trouble."""
    if kind := _TOLD.get(error.status):
        return HttpError(error.status, str(error), kind, code="upstream_refused")
    return HttpError(502, str(error), "server_error", code="upstream_refused")


def _later(status: int, text: str, code: str, seconds: int) -> HttpError:
    """Something that may work in so many seconds."""
    kind = "rate_limit_error" if status == 429 else "service_unavailable_error"
    return HttpError(status, text, kind, code=code, headers={"Retry-After": str(seconds)})


def _invalid(status: int, error: InvalidRequestError, kind: str = _INVALID) -> HttpError:
    return HttpError(status, str(error), kind, error.param, error.code, details=error.details)
