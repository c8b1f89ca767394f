"""The only place where a failed exchange becomes one of the client's typed errors.

Takes what HTTP gives (status, headers, body, or a transport exception) and reads OpenAI's error
body or a proxy's web page. Never retries and never prints.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

import httpx

from extracot_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionLostError,
    ContextLengthError,
    ExtracotAPIError,
    ExtracotConnectionError,
    ExtracotTimeoutError,
    InvalidBudgetError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    ServerUnreachableError,
)

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


def looks_like_html(body: str) -> bool:
    """Whether a body is a web page, whatever its content type says."""
    return (
        body.lstrip("\ufeff \t\r\n")[:200].lower().startswith(("<!doctype html", "<html", "<head"))
    )


def describe_body(body: bytes) -> str:
    """What an unexpected body is, in a few words fit for an error message."""
    text = body.decode("utf-8", errors="replace")
    if looks_like_html(text):
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
    except ValueError:  # JSONDecodeError and UnicodeDecodeError both are
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
        phase = {httpx.WriteTimeout: "write", httpx.PoolTimeout: "pool"}.get(type(error), "read")
        what = {
            "write": f"The server at {base_url} did not take the request in time",
            "pool": "No connection of the pool became free in time",
            "read": f"The server at {base_url} sent nothing in time",
        }[phase]
        return ExtracotTimeoutError(what, phase=phase, **context)
    if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.ProxyError):
        return ServerUnreachableError(f"No server answers at {base_url}{because}", **context)
    when = "in the middle of the reply" if started else "before it replied"
    return ConnectionLostError(
        f"The server at {base_url} closed the connection {when}{because}",
        started=started,
        **context,
    )
