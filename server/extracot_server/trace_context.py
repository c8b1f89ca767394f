"""The trace of the current request, passed on to upstream servers. Knows no tracer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NONE: Mapping[str, str] = MappingProxyType({})
_HEADERS: ContextVar[Mapping[str, str]] = ContextVar("extracot_trace_headers", default=_NONE)


def trace_headers() -> Mapping[str, str]:
    """Headers that continue the trace (W3C Trace Context); none where nothing is traced."""
    return _HEADERS.get()


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Requests sent within the block, and by the tasks it starts, carry these headers."""
    token = _HEADERS.set(headers)
    try:
        yield
    finally:
        _HEADERS.reset(token)
