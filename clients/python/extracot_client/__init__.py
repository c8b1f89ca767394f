"""A client of the server: HTTP only.

``Extracot`` and ``AsyncExtracot`` solve, stream and sweep; the errors they raise and the types
they give are all here. Names are looked up when first used, so that ``extracot --help`` does
not wait for an HTTP library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extracot_client.async_client import AsyncExtracot, AsyncSolveStream
    from extracot_client.client import Extracot, SolveStream
    from extracot_client.errors import (
        AuthenticationError,
        BadRequestError,
        ConfigurationError,
        ConnectionLostError,
        ContextLengthError,
        ExtracotAPIError,
        ExtracotClientError,
        ExtracotConnectionError,
        ExtracotTimeoutError,
        InvalidArgumentError,
        InvalidBudgetError,
        NotFoundError,
        OverloadedError,
        PermissionDeniedError,
        RateLimitError,
        RequestTooLargeError,
        ServerError,
        ServerUnreachableError,
        StreamFailedError,
        UnexpectedReplyError,
    )
    from extracot_client.requests import Problem, SolveOptions
    from extracot_client.retries import Clock, RetryPolicy
    from extracot_client.settings import TimeLimits
    from extracot_client.sweeps import BudgetSummary, SweepProblem, summarise
    from extracot_client.types import (
        AnswerDelta,
        Budget,
        BudgetCardPage,
        BudgetReport,
        Done,
        Event,
        ModelInfo,
        ReasoningDelta,
        Solution,
        SweepRow,
        Timings,
        Usage,
    )

__all__ = [
    "AnswerDelta",
    "AsyncExtracot",
    "AsyncSolveStream",
    "AuthenticationError",
    "BadRequestError",
    "Budget",
    "BudgetCardPage",
    "BudgetReport",
    "BudgetSummary",
    "Clock",
    "ConfigurationError",
    "ConnectionLostError",
    "ContextLengthError",
    "Done",
    "Event",
    "Extracot",
    "ExtracotAPIError",
    "ExtracotClientError",
    "ExtracotConnectionError",
    "ExtracotTimeoutError",
    "InvalidArgumentError",
    "InvalidBudgetError",
    "ModelInfo",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "Problem",
    "RateLimitError",
    "ReasoningDelta",
    "RequestTooLargeError",
    "RetryPolicy",
    "ServerError",
    "ServerUnreachableError",
    "Solution",
    "SolveOptions",
    "SolveStream",
    "StreamFailedError",
    "SweepProblem",
    "SweepRow",
    "TimeLimits",
    "Timings",
    "UnexpectedReplyError",
    "Usage",
    "summarise",
]

_MODULES = (
    *("client", "async_client", "errors", "requests", "retries", "settings", "sweeps", "types"),
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            loaded = importlib.import_module(f"extracot_client.{module}")
            if name in vars(loaded):
                globals()[name] = vars(loaded)[name]
                return globals()[name]
    raise AttributeError(f"module 'extracot_client' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
