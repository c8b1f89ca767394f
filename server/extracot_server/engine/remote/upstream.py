"""One vLLM server over HTTP: its connections, its health, and one stream at a time from it.

Everything that goes wrong with it leaves here as an
:class:`~extracot_server.engine.remote.wire.UpstreamFailure`. Knows nothing of other upstreams:
which one to ask, and whether to try another, is :mod:`extracot_server.engine.remote.engine`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from pydantic import ValidationError

from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import (
    EngineClosedError,
    EngineInfo,
    GenerationDelta,
    GenerationRequest,
)
from extracot_server.engine.remote.arrivals import DONE, Arrivals, event_data
from extracot_server.engine.remote.bounded import Answer, answer_within, error_body
from extracot_server.engine.remote.catalog import (
    ModelCard,
    ModelList,
    Tokens,
    UpstreamMismatchError,
    Version,
    check_answer,
)
from extracot_server.engine.remote.transport import LISTEN, direct_transport
from extracot_server.engine.remote.wire import (
    UpstreamFailure,
    Wire,
    encode_request,
    read_error,
    wire_for,
)
from extracot_server.trace_context import trace_headers

_KEEP_ALIVE = 2.0  # below uvicorn's 5 s: one that it is about to close is reused only after a stall
_DRAIN_SECONDS = 1.0
_USAGE_SECONDS = 5.0  # for the usage behind a whole reply
_HEALTH_TIMEOUTS = 2  # in a row make it unhealthy: a busy server is not a dead one
# A connection that ends before a reply has begun is tried once more: a server that stood still for
# longer than its keep-alive closes the one a request has just been sent on, without reading it.
_RETRIED_ERRORS = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamTimes:
    """Seconds. ``silence`` is how long a running request may bring nothing, the first token too."""

    connect: float = 5.0
    silence: float = 300.0
    health: float = 5.0


class Upstream:
    """A vLLM server. ``transport`` replaces the network in tests."""

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        times: UpstreamTimes | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings
        self.url = settings.url
        self.changed: Callable[[], object] = lambda: None
        """Called when it may have room, is out, or is in again."""
        self.times = times or UpstreamTimes()
        self.down: str | None = "it has not been checked yet"
        """Why it gets no requests; ``None``: it is healthy."""
        self.drained = False
        """By a call; its settings may say so as well."""
        self.in_flight = 0
        self.taken = 0
        self.turn = Fraction()
        """Where it stands among the others, in requests over weight."""
        self.last_used = 0
        self.scale_out = True
        self._timeouts = 0
        self._closed = False
        self._reads: set[asyncio.Timeout] = set()
        self._first_reads: set[asyncio.Timeout] = set()
        self._aborts: set[asyncio.Task[None]] = set()
        times = self.times
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(times.silence, connect=times.connect, pool=None),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_ALIVE),
            transport=transport or direct_transport(_KEEP_ALIVE),
        )
        self.use(settings)

    @property
    def name(self) -> str:
        """What an operator calls it."""
        return self.settings.name

    @property
    def weight(self) -> int:
        """Its share of the requests, relative to the others'."""
        return self.settings.weight

    @property
    def draining(self) -> bool:
        """Whether it gets no new requests, however well it is."""
        return self.settings.drain or self.drained

    @property
    def full(self) -> bool:
        """Whether it has as many requests as it may."""
        most = self.settings.max_running
        return most is not None and self.in_flight >= most

    def use(self, settings: UpstreamSettings) -> None:
        """Go by these settings from now on; the address stays."""
        self.settings = settings
        headers = {"accept-encoding": "identity"}
        if settings.api_key is not None:
            headers["authorization"] = f"Bearer {settings.api_key}"
        self._http.headers = httpx.Headers(headers)
        self.changed()

    # ------------------------------------------------------------------------------- its health

    def quarantine(self, reason: str) -> None:
        """Give it no requests until :meth:`admit`; those without a token yet fail at once."""
        if self.down is None:
            _log.warning("upstream %s is out: %s", self.url, reason)
        self.down = reason
        _expire(self._first_reads)
        self.changed()

    def admit(self) -> None:
        """Give it requests (again). It may have been restarted with other flags."""
        if self.down is not None:
            _log.info("upstream %s serves", self.url)
        self.down = None
        self._timeouts = 0
        self.scale_out = True
        self.changed()

    def is_healthy(self, status: int) -> bool:
        """Whether this status of ``/health`` is a good one."""
        return status == 200

    def is_lost(self, failure: UpstreamFailure) -> bool:
        """Whether what has failed one request would fail every other one, too."""
        return failure.down

    async def check_health(self) -> None:
        """Raise :class:`UpstreamFailure` where it is unhealthy; one time-out is forgiven."""
        try:
            response = await self._get("/health")
        except UpstreamFailure as failure:
            if isinstance(failure.__cause__, httpx.TimeoutException):
                self._timeouts += 1
                if self.down is None and self._timeouts < _HEALTH_TIMEOUTS:
                    return
            raise
        self._timeouts = 0
        if not self.is_healthy(response.status_code):
            raise UpstreamFailure(f"its health is status {response.status_code}", down=True)

    async def models(self) -> list[ModelCard]:
        """What it serves. Raises :class:`UpstreamFailure`, or :class:`UpstreamMismatchError` where
        it refuses the key, redirects or is no OpenAI-compatible server."""
        response = await self._get("/v1/models")
        check_answer(response.status_code, response.headers.get("location"), self.url)
        if response.status_code >= 500:
            raise UpstreamFailure(f"it answered with status {response.status_code}", down=True)
        try:
            return ModelList.model_validate_json(response.content).data
        except ValidationError:
            raise UpstreamMismatchError(
                f"upstream {self.url} has no list of models "
                f"(status {response.status_code}); is it a vLLM server?"
            ) from None

    async def version(self) -> str:
        """Its version of vLLM; ``unknown`` where it does not tell."""
        try:
            return Version.model_validate_json((await self._get("/version")).content).version
        except (UpstreamFailure, ValidationError):
            return "unknown"

    async def tokenize(self, model: str, text: str) -> list[int] | None:
        """Ids of ``text`` in its own tokenizer; ``None`` where it does not tell."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        if self._closed:
            return None
        try:
            answer = await self._ask("POST", "/tokenize", body)
            return Tokens.model_validate_json(answer.content).tokens
        except (httpx.HTTPError, ValidationError):
            return None

    async def _get(self, path: str) -> Answer:
        if self._closed:
            raise UpstreamFailure("the engine was closed", down=True)
        try:
            return await self._ask("GET", path)
        except httpx.HTTPError as error:
            raise self._failure(error) from error

    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        """A small question. Connecting and answering may take ``times.health`` each."""
        within = self.times.health
        request = self._http.build_request(method, path, json=body, timeout=within)
        return await answer_within(self._send(request), 2 * within)

    async def _send(self, request: httpx.Request, *, late: bool = False) -> httpx.Response:
        """Its response, whose body is to be read. Sent once more after ``_RETRIED_ERRORS``, and
        where ``late`` is set after a connect time-out, which a stall of this process looks like."""
        again = (*_RETRIED_ERRORS, httpx.ConnectTimeout) if late else _RETRIED_ERRORS
        try:
            return await self._http.send(request, stream=True)
        except again:
            if self._closed:  # which is what broke it
                raise
            return await self._http.send(request, stream=True)

    def _failure(self, error: httpx.HTTPError) -> UpstreamFailure:
        """An httpx error as ours. Not connecting is certain, a broken reply may be bad luck."""
        text = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return UpstreamFailure(f"it cannot be reached ({text})", down=True)
        if isinstance(error, httpx.TimeoutException):
            return UpstreamFailure("it did not answer in time")
        return UpstreamFailure(f"the connection broke ({text})")

    # ---------------------------------------------------------------------------- one request

    async def stream(
        self, request: GenerationRequest, info: EngineInfo, defaults: Mapping[str, Any]
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Stream one continuation; closing the generator aborts it at the server.

        Raises :class:`UpstreamFailure` at any time, :class:`EngineRequestError` before the first
        delta, :class:`EngineClosedError` after :meth:`drop`.
        """
        # A name of its own: clients choose theirs and may use one twice, and an abort goes by name.
        request = replace(request, request_id=f"{request.request_id}-{uuid4().hex[:12]}")
        wire: Wire | None = None
        finished = False
        self.in_flight += 1
        self.taken += 1
        try:
            wire, response = await self._begin(request, info, defaults)
            arrivals = self._arrivals(wire, request)
            async with (
                contextlib.aclosing(response),
                contextlib.aclosing(event_data(response.aiter_raw(), arrivals)) as reply,
            ):
                first = True
                while not finished:
                    while (delta := arrivals.take()) is None:
                        arrivals.add(await self._more(reply, arrivals, first=first))
                    if hold := request.hold:
                        delta = arrivals.take_with(delta)
                    finished = delta.finish_reason is not None
                    if finished:
                        await self._drain(reply)
                    if first or not request.taken(delta):
                        yield delta
                    if first and request.receiver is not None and LISTEN in response.extensions:
                        response.extensions[LISTEN](arrivals.pass_on)
                    first = False
                    if hold and not finished:
                        await asyncio.sleep(hold)  # the connection keeps what comes meanwhile
        except httpx.HTTPError as error:
            raise self._failure(error) from None
        finally:
            self.in_flight -= 1
            self.changed()
            if wire is not None and wire.aborts_by_name and not finished:
                self._abort(request.request_id)

    async def _begin(
        self, request: GenerationRequest, info: EngineInfo, defaults: Mapping[str, Any]
    ) -> tuple[Wire, httpx.Response]:
        """Send the request, in completions where the server has nothing better."""
        room = info.max_model_len - len(request.token_ids)
        while True:
            wire = wire_for(request, scale_out=self.scale_out)
            body = encode_request(request, wire, model=info.model, defaults=defaults, room=room)
            response = await self._read(self._open(wire, body), first=True)
            if response.status_code == 200:
                return wire, response
            content = await self._read(error_body(response), first=True)
            if not wire.may_be_missing or response.status_code not in (403, 404):
                raise read_error(response.status_code, content, response.headers.get("retry-after"))
            self.scale_out = False

    async def _open(self, wire: Wire, body: bytes) -> httpx.Response:
        headers = {"content-type": "application/json", **trace_headers()}
        request = self._http.build_request("POST", wire.value, content=body, headers=headers)
        return await self._send(request, late=True)

    def _arrivals(self, wire: Wire, request: GenerationRequest) -> Arrivals:
        return Arrivals(wire, request)

    async def _more(
        self, reply: AsyncGenerator[list[bytes]], arrivals: Arrivals, *, first: bool
    ) -> list[bytes]:
        """The next lines. What breaks or is silent behind a whole reply only ends it."""
        try:
            async with asyncio.timeout(_USAGE_SECONDS if arrivals.whole else None):
                return await self._read(anext(reply, [DONE]), first=first)
        except (httpx.HTTPError, TimeoutError):
            if arrivals.whole:
                return [DONE]
            raise

    async def _drain(self, reply: AsyncGenerator[list[bytes]]) -> None:
        """Read what ends the stream, so that the connection can be used again."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for _ in reply:
                    pass
        except (httpx.HTTPError, TimeoutError):
            pass  # the reply is whole; only the connection is lost

    async def _read(self, reading: Awaitable[T], *, first: bool) -> T:
        """Await ``reading``; :meth:`quarantine` (before the first token) or :meth:`drop` ends it.

        Silence itself is httpx's read time-out.
        """
        try:
            async with asyncio.timeout(0 if self._closed else None) as deadline:
                places = (self._reads, self._first_reads) if first else (self._reads,)
                for place in places:
                    place.add(deadline)
                try:
                    return await reading
                finally:
                    for place in places:
                        place.discard(deadline)
        except TimeoutError:
            if self._closed:
                raise EngineClosedError from None
            raise UpstreamFailure(self.down or "it was given up", down=True) from None

    def _abort(self, request_id: str) -> None:
        """Abort by name too: a proxy may keep a closed connection from the server."""
        if self._closed:
            return
        task = asyncio.create_task(self._send_abort(f"generate-tokens-{request_id}"))
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def _send_abort(self, name: str) -> None:
        path, body = "/inference/v1/abort_requests", {"request_ids": [name]}
        try:
            await self._ask("POST", path, body)
        except httpx.HTTPError as error:
            _log.debug("abort of %s at %s: %s", name, self.url, error)

    def drop(self) -> None:
        """End every running request, and every later one, with :class:`EngineClosedError`."""
        self._closed = True
        _expire(self._reads)

    async def aclose(self) -> None:
        """Close its connections."""
        self.drop()
        aborts = list(self._aborts)
        for task in aborts:
            task.cancel()
        await asyncio.gather(*aborts, return_exceptions=True)
        await self._http.aclose()


def _expire(deadlines: set[asyncio.Timeout]) -> None:
    now = asyncio.get_running_loop().time()
    for deadline in deadlines:
        if not deadline.expired():
            deadline.reschedule(now)
