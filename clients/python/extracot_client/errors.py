"""Everything the client raises on purpose: one tree below :class:`extracot.errors.ExtracotError`.

Three families: the caller's own mistake (found before anything is sent), a server that could not
be reached, and a server that answered with an error. What turns a failed request into one of these
is :mod:`extracot_client.failures`. No error ever holds the API key.
"""

from __future__ import annotations

from typing import Any

from extracot.errors import ExtracotError


class ExtracotClientError(ExtracotError):
    """Root of the client's errors; ``str(error)`` is always one line."""


class ConfigurationError(ExtracotClientError):
    """A base URL, key or time limit that cannot be used."""


class InvalidArgumentError(ExtracotClientError):
    """An argument that cannot be sent (not a matter of what the server allows)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ExtracotConnectionError(ExtracotClientError):
    """No whole reply came. What had come of it is in ``partial_reasoning``/``partial_answer``."""

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        partial_reasoning: str = "",
        partial_answer: str = "",
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.partial_reasoning = partial_reasoning
        self.partial_answer = partial_answer


class ServerUnreachableError(ExtracotConnectionError):
    """No connection could be made: nothing listens there, no such host, no TLS agreement."""


class ConnectionLostError(ExtracotConnectionError):
    """The connection broke before the reply was whole; ``started`` says if any of it had come."""

    def __init__(self, message: str, *, started: bool = False, **context: Any) -> None:
        super().__init__(message, **context)
        self.started = started


class ExtracotTimeoutError(ExtracotConnectionError):
    """A time limit ran out; ``phase`` is ``connect``, ``read``, ``write``, ``pool`` or
    ``deadline``."""

    def __init__(self, message: str, *, phase: str = "read", **context: Any) -> None:
        super().__init__(message, **context)
        self.phase = phase


class UnexpectedReplyError(ExtracotClientError):
    """A successful status, but not the reply of such a server: a web page, broken JSON."""

    def __init__(
        self, message: str, *, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class ExtracotAPIError(ExtracotClientError):
    """The server refused or failed.

    ``status`` is the HTTP status, ``None`` for an error inside a stream; ``type``, ``param`` and
    ``code`` are those of OpenAI's error body; ``retry_after`` is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        details = [
            f"{name} {value}"
            for name, value in (
                ("HTTP", self.status),
                ("param", self.param),
                ("code", self.code),
                ("request", self.request_id),
            )
            if value is not None
        ]
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


class StreamFailedError(ExtracotAPIError):
    """An error event inside a stream that had begun well; what had come is kept here."""

    def __init__(
        self, message: str, *, partial_reasoning: str = "", partial_answer: str = "", **context: Any
    ) -> None:
        super().__init__(message, **context)
        self.partial_reasoning = partial_reasoning
        self.partial_answer = partial_answer
