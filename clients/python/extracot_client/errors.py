"""Everything the client raises on purpose: one tree below :class:`extracot.errors.ExtracotError`.

Three families: the caller's own mistake (found before anything is sent), a server that could not
be reached, and a server that answered with an error. Below the tree is the only place where a
failed exchange becomes one of these: it takes what HTTP gives (status, headers, body, or a
transport exception) and reads OpenAI's error body or a proxy's web page. No error ever holds the
API key.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from extracot.errors import ExtracotError


@dataclass(eq=False, repr=False)
class ExtracotClientError(ExtracotError):
    """Root of the client's errors; ``str(error)`` is always one line."""

    message: str

    def __post_init__(self) -> None:
        self.args = (self.message,)  # given by name, too


class ConfigurationError(ExtracotClientError):
    """A base URL, key or time limit that cannot be used."""


@dataclass(eq=False, repr=False, kw_only=True)
class InvalidArgumentError(ExtracotClientError):
    """An argument that cannot be sent (not a matter of what the server allows)."""

    param: str | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class ExtracotConnectionError(ExtracotClientError):
    """No whole reply came. What had come of it is in ``partial_reasoning``/``partial_answer``."""

    request_id: str | None = None
    partial_reasoning: str = ""
    partial_answer: str = ""


class ServerUnreachableError(ExtracotConnectionError):
    """No connection could be made: nothing listens there, no such host, no TLS agreement."""


@dataclass(eq=False, repr=False, kw_only=True)
class ConnectionLostError(ExtracotConnectionError):
    """The connection broke before the reply was whole; ``started`` says if any of it had come."""

    started: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class ExtracotTimeoutError(ExtracotConnectionError):
    """A time limit ran out; ``phase`` is ``connect``, ``read``, ``write``, ``pool`` or
    ``deadline``."""

    phase: str = "read"


@dataclass(eq=False, repr=False, kw_only=True)
class UnexpectedReplyError(ExtracotClientError):
    """A successful status, but not the reply of such a server: a web page, broken JSON."""

    status: int | None = None
    request_id: str | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class ExtracotAPIError(ExtracotClientError):
    """The server refused or failed.

    ``status`` is the HTTP status, ``None`` for an error inside a stream; ``type``, ``param`` and
    ``code`` are those of OpenAI's error body; ``retry_after`` is in seconds.
    """

    status: int | None = None
    type: str | None = None
    param: str | None = None
    code: str | None = None
    request_id: str | None = None
    retry_after: float | None = None

    def __str__(self) -> str:
        shown = {"HTTP": self.status, "param": self.param, "code": self.code}
        shown["request"] = self.request_id
        details = [f"{name} {value}" for name, value in shown.items() if value is not None]
        return f"{self.message} ({', '.join(details)})" if details else self.message


class BadRequestError(ExtracotAPIError):
    """400 or 422: the request was refused as it stands."""


class InvalidBudgetError(BadRequestError):
    """A budget the server does not accept; ``param`` is ``budget`` or ``budget.<key>``."""


class ContextLengthError(BadRequestError):
    """The prompt does not fit the model's context (``context_length_exceeded``)."""


class AuthenticationError(ExtracotAPIError):
    """401: no key, or a wrong one."""


class PermissionDeniedError(ExtracotAPIError):
    """403: the key may not do this."""


class NotFoundError(ExtracotAPIError):
    """404: no such model, or no such path on that server."""


class RequestTooLargeError(ExtracotAPIError):
    """413: the body is larger than the server takes."""


class RateLimitError(ExtracotAPIError):
    """429: too much for this key; ``retry_after`` says when to come back."""


class ServerError(ExtracotAPIError):
    """5xx: the server failed."""


class OverloadedError(ServerError):
    """503: the queue is full, or the engine is not there now."""


@dataclass(eq=False, repr=False, kw_only=True)
class StreamFailedError(ExtracotAPIError):
    """An error event inside a stream that had begun well; what had come is kept here."""

    partial_reasoning: str = ""
    partial_answer: str = ""


REQUEST_ID_HEADER = "x-request-id"
_MAX_MESSAGE = 600
_BY_STATUS: dict[int, type[ExtracotAPIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: RequestTooLargeError,
    422: BadRequestError,
    429: RateLimitError,
    503: OverloadedError,
}


def one_line(text: str, limit: int = _MAX_MESSAGE) -> str:
    """``text`` on one line, cut at ``limit`` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def describe_body(body: bytes) -> str:
    """What an unexpected body is, in a few words fit for an error message."""
    text = body.decode("utf-8", errors="replace")
    start = text.lstrip("\ufeff \t\r\n")[:200].lower()
    if start.startswith(("<!doctype html", "<html", "<head")):  # whatever its content type says
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        name = one_line(html.unescape(title.group(1)), 100) if title else ""
        named = f" titled {name!r}" if name else ""
        return f"a web page{named}, as a proxy sends it"
    if not text.strip():
        return "an empty body"
    return f"{one_line(text, 120)!r}"


def _error_fields(body: bytes) -> dict[str, Any] | None:
    """The fields of an error body: OpenAI's, or the two common simpler shapes; else ``None``."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or deeper than anybody reads
        return None
    if not isinstance(parsed, dict):
        return None
    error = parsed.get("error", parsed)
    if isinstance(error, str):
        return {"message": error}
    if isinstance(error, dict) and ("message" in error or "detail" in error):
        return {"message": error.get("message", error.get("detail")), **error}
    return None


def _text(value: object) -> str | None:
    return None if value is None else one_line(str(value), 200)


def error_from_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, retry_after: float | None = None
) -> ExtracotAPIError:
    """The typed error for a reply whose status is not a success."""
    fields = _error_fields(body)
    request_id = headers.get(REQUEST_ID_HEADER)
    if fields is None:
        location = headers.get("location")
        what = f"a redirect to {one_line(location, 120)}" if location else describe_body(body)
        fields = {"message": f"The server answered {status} with {what}."}
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else ExtracotAPIError)
    return refine(kind, fields, status=status, request_id=request_id, retry_after=retry_after)


def refine(
    kind: type[ExtracotAPIError], fields: Mapping[str, Any], **context: Any
) -> ExtracotAPIError:
    """Build ``kind`` from error fields, or the narrower class that ``param`` and ``code`` name."""
    param, code = _text(fields.get("param")), _text(fields.get("code"))
    if kind is BadRequestError:
        if param is not None and (param == "budget" or param.startswith("budget.")):
            kind = InvalidBudgetError
        elif code == "context_length_exceeded":
            kind = ContextLengthError
    return kind(
        one_line(str(fields.get("message") or "The server gave no reason.")),
        type=_text(fields.get("type")),
        param=param,
        code=code,
        **context,
    )


def error_from_transport(
    error: httpx.HTTPError, base_url: str, *, started: bool = False, **context: Any
) -> ExtracotConnectionError:
    """The typed error for an exchange that broke off; ``context`` is what it carries.

    ``started``: whether the reply's status line had come, after which nothing is ever retried.
    """
    cause = one_line(str(error), 160)
    because = f": {cause}" if cause else ""
    if isinstance(error, httpx.ConnectTimeout):
        return ServerUnreachableError(
            f"No server answers at {base_url}: the connection timed out", **context
        )
    if isinstance(error, httpx.TimeoutException):
        phase, what = "read", f"The server at {base_url} sent nothing in time"
        if isinstance(error, httpx.WriteTimeout):
            phase, what = "write", f"The server at {base_url} did not take the request in time"
        elif isinstance(error, httpx.PoolTimeout):
            phase, what = "pool", "No connection of the pool became free in time"
        return ExtracotTimeoutError(what, phase=phase, **context)
    if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.ProxyError):
        return ServerUnreachableError(f"No server answers at {base_url}{because}", **context)
    when = "in the middle of the reply" if started else "before it replied"
    return ConnectionLostError(
        f"The server at {base_url} closed the connection {when}{because}",
        started=started,
        **context,
    )
