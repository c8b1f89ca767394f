"""What became of one request at the upstreams: why none served it, and what its client is told.

An upstream's own words reach a client only where it refused the request, and without its key and
its address. Knows nothing of health: a failure is the engine's to act on.
"""

from __future__ import annotations

from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import (
    EngineBusyError,
    EngineDeadError,
    EngineError,
    EngineRefusedError,
    EngineRequestError,
    PromptTooLongError,
    ReplyLostError,
)
from extracot_server.engine.remote.fleet import Fleet
from extracot_server.engine.remote.upstream import Upstream
from extracot_server.engine.remote.wire import UpstreamFailure

_LATER = (401, 408, 425, 429)
"""Of the statuses 400 to 499 those that are nothing of the request's: our key, and bad luck."""
_HIDDEN = "…"
_SHORTEST_KEY = 8
"""A shorter one is a placeholder (``none``, ``x``), and part of words that have nothing of it."""
_LONGEST = 400
"""Characters of what an upstream says that anybody is told."""


class Failures:
    """Of one request, the upstreams that failed on it so far."""

    def __init__(self, fleet: Fleet) -> None:
        self.why = ""
        """The last one's, for the log."""
        self._fleet = fleet
        self._waits: list[int] = []
        self._refusal: EngineRefusedError | None = None

    def add(self, upstream: Upstream, failure: UpstreamFailure) -> None:
        """Another one that has failed."""
        self.why = f"upstream {upstream.url}: {keyless(str(failure), upstream.settings)}"
        if failure.retry_after is not None:
            self._waits.append(failure.retry_after)
        elif (status := _refused(upstream, failure)) is not None:
            what = f"The server behind this model refused the request with status {status}"
            words = concealed(failure.words, upstream.settings)
            self._refusal = EngineRefusedError(
                f"{what}: {words}" if words else f"{what}.", status=status
            )

    def broken_off(self) -> EngineError:
        """The error where a reply had begun."""
        why = f"a reply broke off in the middle: {self.why}"
        return ReplyLostError(why) if self._fleet.serves else EngineDeadError(why)

    def error(self) -> EngineError:
        """The error where no upstream is left to ask."""
        why = self.why or self._fleet.none_left
        if self._waits:  # healthy upstreams exist, but all are busy
            return EngineBusyError(why, retry_after=min(self._waits))
        if not self._fleet.serves:
            return EngineDeadError(why)
        return self._refusal or EngineError(why)


def _refused(upstream: Upstream, failure: UpstreamFailure) -> int | None:
    """The status by which an upstream that is well has refused this request, where it has."""
    status = failure.status
    if status is None or not 300 <= status < 500 or status in _LATER:
        return None
    return None if upstream.is_lost(failure) else status


def without_secrets(error: EngineRequestError, settings: UpstreamSettings) -> EngineRequestError:
    """An upstream's refusal of a field, as a client may read it."""
    kind = PromptTooLongError if isinstance(error, PromptTooLongError) else EngineRequestError
    return kind(concealed(str(error), settings), param=error.param)


def keyless(words: str, settings: UpstreamSettings) -> str:
    """What is known of an upstream, as an operator may read it."""
    return _keyless(words, settings)[:_LONGEST]


def concealed(words: str, settings: UpstreamSettings) -> str:
    """What an upstream has said, without its key and its address."""
    words = _keyless(words, settings)
    host = settings.url.partition("://")[2].partition("/")[0]
    hosts = [name for name in (host, host.partition(":")[0]) if "." in name or ":" in name]
    for address in (settings.url, *hosts):
        words = words.replace(address, _HIDDEN)
    return words[:_LONGEST]


def _keyless(words: str, settings: UpstreamSettings) -> str:
    """All of the words: a key that is cut in two could not be found any more."""
    key = settings.api_key or ""
    return words.replace(key, _HIDDEN) if len(key) >= _SHORTEST_KEY else words
