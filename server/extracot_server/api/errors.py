"""The only place where exceptions become HTTP: status, OpenAI's error body, headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from extracot.errors import ExtracotError, PromptError
from extracot_server.admission import Refusal, RefusedError
from extracot_server.engine.base import (
    EngineBusyError,
    EngineClosedError,
    EngineDeadError,
    EngineRequestError,
)
from extracot_server.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
)


@dataclass(frozen=True, slots=True)
class HttpError:
    """An error as it goes over the wire."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": _encodable(self.message),
                "type": self.type,
                "param": None if self.param is None else _encodable(self.param),
                "code": self.code,
            }
        }

    @property
    def reason(self) -> str:
        """The bounded value of the ``reason`` label of ``extracot_rejected_total``."""
        return self.code or self.type


class BodyTooLargeError(InvalidRequestError):
    """The body is larger than the server reads."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than {limit} bytes.", code="request_too_large"
        )


class InvalidKeyError(ExtracotError):
    """No key, or one that nobody has."""

    def __init__(self, *, missing: bool) -> None:
        super().__init__(
            "No API key was given: send it as `Authorization: Bearer KEY`."
            if missing
            else "Incorrect API key provided."
        )


class EngineNotReadyError(EngineDeadError):
    """The engine is down or not up yet."""


def to_http(error: BaseException) -> HttpError:
    """Map any exception; what nobody expected is a 500 that tells the client nothing inside."""
    match error:
        case ModelNotFoundError():
            return _invalid(404, error, kind="not_found_error")
        case BodyTooLargeError():
            return _invalid(413, error)
        case ContextLengthError() | InvalidRequestError():
            return _invalid(400, error)
        case PromptError():
            return HttpError(400, str(error), "invalid_request_error", error.field, "invalid_value")
        case EngineRequestError():
            kind = "invalid_request_error"
            return HttpError(400, str(error), kind, error.param, "invalid_value")
        case RefusedError():
            crowded = error.reason in (Refusal.QUEUE_FULL, Refusal.STOPPING)
            return HttpError(
                503 if crowded else 429,
                str(error),
                "service_unavailable_error" if crowded else "rate_limit_error",
                code=str(error.reason),
                headers={"Retry-After": str(error.retry_after)},
            )
        case InvalidKeyError():
            return HttpError(
                401,
                str(error),
                "invalid_request_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        case EngineBusyError():
            return HttpError(
                503,
                "The servers behind this one are busy; try again later.",
                "service_unavailable_error",
                code="engine_busy",
                headers={"Retry-After": str(error.retry_after)},
            )
        case EngineClosedError():
            return to_http(RefusedError(Refusal.STOPPING))
        case EngineDeadError():
            return HttpError(
                503,
                "The engine is not available; try again shortly.",
                "service_unavailable_error",
                code="engine_unavailable",
                headers={"Retry-After": "5"},
            )
        case _:
            return HttpError(
                500, "The server failed on this request.", "server_error", code="internal_error"
            )


def _invalid(
    status: int, error: InvalidRequestError, kind: str = "invalid_request_error"
) -> HttpError:
    return HttpError(status, str(error), kind, error.param, error.code)


def _encodable(text: str) -> str:
    """JSON can spell half a character (a lone surrogate); no reply can carry it back."""
    return text.encode("utf-8", errors="replace").decode()
