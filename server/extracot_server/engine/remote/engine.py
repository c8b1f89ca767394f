"""vLLM servers elsewhere as one engine: token ids over HTTP, spread over all that are healthy.

One of the least busy upstreams gets the request (:mod:`extracot_server.engine.remote.fleet`);
another one is tried until the first token has come and never after. Budgets, reasoning blocks and
text are unknown here, as to every engine; how one server is talked to is
:mod:`extracot_server.engine.remote.upstream`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx

from extracot.prompt import Tokenizer
from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import (
    AnswerFormat,
    EngineBusyError,
    EngineClosedError,
    EngineDeadError,
    EngineError,
    EngineInfo,
    EngineRefusedError,
    EngineRequestError,
    EngineStartError,
    GenerationDelta,
    GenerationRequest,
    ReplyLostError,
    UpstreamState,
)
from extracot_server.engine.grammar_checks import GrammarChecks
from extracot_server.engine.remote.catalog import ModelCard, UpstreamMismatchError, choose_model
from extracot_server.engine.remote.failures import Failures, keyless, without_secrets
from extracot_server.engine.remote.fleet import Fleet
from extracot_server.engine.remote.model import LocalModel, load_local_model
from extracot_server.engine.remote.names import Resolve, resolve_name, tell_shared
from extracot_server.engine.remote.promise import Promise, leave_out
from extracot_server.engine.remote.replacing import replacing
from extracot_server.engine.remote.upstream import Upstream, UpstreamTimes
from extracot_server.engine.remote.wire import UpstreamFailure
from extracot_server.engine.request_checks import check_request

_log = logging.getLogger(__name__)


class RemoteEngine:
    """An :class:`~extracot_server.engine.base.Engine` of one or more vLLM servers.

    ``upstreams`` are base URLs, or what an upstreams file says of each; those named in ``canary``
    get the requests placed there, and no others while there are others. ``model`` is the name they
    serve it by, or the folder or hub id they loaded; without it they must serve one model only.
    ``tokenizer_path`` is a folder or hub id, by default what the first upstream says it loaded.
    ``api_key`` is one key for all, or one each. Health is checked every ``health_seconds``.
    ``load_model``, ``transport`` and ``resolve`` are for tests.
    """

    upstream_class: type[Upstream] = Upstream

    def __init__(
        self,
        upstreams: Sequence[str | UpstreamSettings],
        *,
        canary: Collection[str] = (),
        model: str | None = None,
        tokenizer_path: str | None = None,
        api_key: str | Sequence[str | None] | None = None,
        health_seconds: float = 5.0,
        times: UpstreamTimes | None = None,
        load_model: Callable[[str], LocalModel] = load_local_model,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve = resolve_name,
    ) -> None:
        many = len(upstreams)
        keys = [api_key] * many if api_key is None or isinstance(api_key, str) else list(api_key)
        self._times, self._transport = times, transport
        self._fleet = Fleet(
            (
                self._connect(UpstreamSettings(one, api_key=key) if isinstance(one, str) else one)
                for one, key in zip(upstreams, keys, strict=True)
            ),
            canary,
        )
        self._left: set[Upstream] = set()
        """Those that are gone from the settings and still finish what they have."""
        self._wanted = model
        self._tokenizer_path = tokenizer_path
        self._adapter: str | None = None
        self._health_seconds = health_seconds
        self._load_model = load_model
        self._resolve = resolve
        self._unusable: EngineDeadError | None = EngineDeadError("the engine has not been started")
        self._local: LocalModel | None = None
        self._info: EngineInfo | None = None
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._grammars = GrammarChecks(self._refusal, lambda: "of the upstream")
        self._tasks: set[asyncio.Task[None]] = set()
        self._checking: set[Upstream] = set()

    @property
    def info(self) -> EngineInfo:
        """Facts about the model as served here; valid after :meth:`start`."""
        if self._info is None:
            raise self._unusable or EngineDeadError("the engine has not been started")
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded in this process; valid after :meth:`start`."""
        return self._model.tokenizer

    @property
    def source(self) -> str:
        """Where a budget card may lie: an adapter's own folder, else where the tokenizer is."""
        return self._adapter or self._model.source

    @property
    def _upstreams(self) -> list[Upstream]:
        return self._fleet.all

    @property
    def _model(self) -> LocalModel:
        if self._local is None:
            raise self._unusable or EngineDeadError("the engine has not been started")
        return self._local

    def _connect(self, settings: UpstreamSettings) -> Upstream:
        return self.upstream_class(settings, times=self._times, transport=self._transport)

    @property
    def _keeping(self) -> Promise:
        return Promise(self._wanted, self.info, self._model)

    # ------------------------------------------------------------------------------------ start

    async def start(self) -> None:
        """Ask the upstreams what they serve and load the tokenizer.

        One that does not answer is left out until it does. Raises :class:`EngineStartError` if
        none answers, or one answers that serves something else.
        """
        try:
            await self._start()
        except BaseException:
            await self.close(0)
            raise

    async def _start(self) -> None:
        cards = await asyncio.gather(*(self._discover(upstream) for upstream in self._upstreams))
        found = [(up, card) for up, card in zip(self._upstreams, cards, strict=True) if card]
        if not found:
            first = self._upstreams[0]
            more = f" (nor can {len(cards) - 1} more)" if len(cards) > 1 else ""
            raise EngineStartError(f"upstream {first.url} cannot be used: {first.down}{more}")
        # What is served is what everybody's requests meet: no canary, nor one that is serviced.
        found.sort(key=lambda pair: (pair[0].draining, self._fleet.is_canary(pair[0])))
        first, chosen = found[0]
        self._adapter = chosen.adapter
        source = self._tokenizer_path or chosen.root or chosen.id
        self._local = await asyncio.to_thread(self._load_model, source)
        lengths = {
            card.max_model_len or 0 for up, card in found if first.draining or not up.draining
        }
        if len(lengths) > 1:
            _log.warning("upstreams differ in max_model_len; using the smallest, %d", min(lengths))
        versions = await asyncio.gather(*(upstream.version() for upstream, _ in found))
        self._info = EngineInfo(
            kind="remote",
            version="+".join(sorted(set(versions))),
            model=chosen.id,
            device="remote",
            max_model_len=min(lengths),
            vocab_size=self._local.vocab_size,
            eos_token_ids=self._local.eos_token_ids,
            model_type=self._local.model_type,
            architectures=self._local.architectures,
        )
        for upstream, card in found:
            try:
                await self._keeping.compare(upstream, card)
                upstream.admit()
            except UpstreamMismatchError as error:
                self._not_ours(upstream, error)
        self._unusable = None
        self._spawn(self._watch())

    async def _discover(self, upstream: Upstream) -> ModelCard | None:
        """What one upstream serves; ``None`` where it cannot be used now."""
        await tell_shared(upstream.url, self._resolve)
        try:
            await upstream.check_health()
            return choose_model(await upstream.models(), self._wanted, upstream.url)
        except UpstreamFailure as failure:
            leave_out(upstream, failure)
            return None
        except UpstreamMismatchError as error:
            return self._not_ours(upstream, error)

    @staticmethod
    def _not_ours(upstream: Upstream, error: UpstreamMismatchError) -> None:
        """End the start, but for one that is drained, which may be in the middle of an upgrade."""
        if not upstream.draining:
            raise EngineStartError(str(error)) from None
        leave_out(upstream, error)

    # --------------------------------------------------------------------------------- requests

    async def check_format(self, wanted: AnswerFormat) -> None:
        """Ask an upstream for one token in this format, unless it is known to be good.

        vLLM has no call that only compiles a schema; it refuses a bad one before any token.
        """
        await self._grammars.check(wanted)

    async def _refusal(self, schema: Mapping[str, Any]) -> str | None:
        """Why the upstreams refuse a schema."""
        try:
            return await self._tried(AnswerFormat("json_schema", schema))
        except (EngineDeadError, EngineBusyError, EngineRefusedError, ReplyLostError):
            raise
        except EngineRequestError as error:
            return str(error)
        except EngineError:
            # Status 500 is what vLLM makes of a grammar that cannot be compiled.
            await self._tried(None)
            return "the upstream failed on it"

    async def _tried(self, wanted: AnswerFormat | None) -> str | None:
        token = self._model.tokenizer.encode("x", add_special_tokens=False)[0]
        probe = GenerationRequest(f"format-{uuid4().hex}", (token,), 1, answer_format=wanted)
        async with contextlib.aclosing(self.generate(probe)) as stream:
            async for delta in stream:
                if wanted and delta.finish_reason == "stop" and not delta.token_ids:
                    return "no value keeps to it"
        return None

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Stream one continuation; closing the generator aborts it at its upstream.

        A failure before the first token goes to another upstream. After it, it is an
        :class:`EngineError`, or :class:`EngineDeadError` where no upstream is left. Where all that
        are left are busy, it is an :class:`EngineBusyError`.
        """
        self._check_open()
        self._check_request(request)
        self._running += 1
        self._idle.clear()
        try:
            stream = self._attempts(request)
            async with contextlib.aclosing(stream):
                async for delta in stream:
                    yield delta
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def _check_request(self, request: GenerationRequest) -> None:
        check_request(request, self.info)

    async def _attempts(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        tried: list[Upstream] = []
        failures = Failures(self._fleet)
        while (upstream := await self._fleet.next(request, tried)) is not None:
            tried.append(upstream)
            begun = False
            stream = upstream.stream(request, self.info, self._model.defaults)
            try:
                async with contextlib.aclosing(stream):
                    async for delta in stream:
                        begun = True
                        yield delta
                return
            except EngineRequestError as error:
                raise without_secrets(error, upstream.settings) from None
            except UpstreamFailure as failure:
                failures.add(upstream, failure)
                if failure.retry_after is None:
                    last = begun or not self._fleet.usable(request, tried)
                    await self._on_failure(upstream, failure, wait=last)
            if begun:
                raise failures.broken_off()
            _log.warning("a request could not be served: %s", failures.why)
        raise failures.error()

    async def _on_failure(
        self, upstream: Upstream, failure: UpstreamFailure, *, wait: bool
    ) -> None:
        """Take it out if it is down, else check it; in the background unless ``wait`` is set."""
        doubted = failure.status == 404  # of the request, or its model is gone
        if upstream.is_lost(failure):
            upstream.quarantine(keyless(str(failure), upstream.settings))
        elif wait:
            await self._examine(upstream, doubted=doubted)
        elif upstream not in self._checking:
            self._checking.add(upstream)
            self._spawn(self._examine(upstream, doubted=doubted))

    # ----------------------------------------------------------------------------------- health

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._health_seconds)
            await asyncio.gather(*(self._examine(upstream) for upstream in self._upstreams))

    async def _examine(self, upstream: Upstream, *, doubted: bool = False) -> None:
        """Take an upstream out or in again, as its health says; ``doubted``: its models as well."""
        self._checking.discard(upstream)
        try:
            await upstream.check_health()
            if upstream.down is not None:
                await self._keeping.take_in(upstream)
            elif doubted:
                await self._keeping.confirm(upstream)
        except UpstreamFailure as failure:
            upstream.quarantine(str(failure))
        except UpstreamMismatchError as error:
            if upstream.down != str(error):
                _log.error("%s", error)
            upstream.quarantine(str(error))

    async def check_health(self) -> None:
        """Raise :class:`EngineDeadError` when no upstream takes requests. No I/O: see `_watch`."""
        self._check_open()
        if not self._fleet.serves:
            raise EngineDeadError(self._fleet.none_left)

    def _check_open(self) -> None:
        if self._unusable is not None:
            raise type(self._unusable)(str(self._unusable))

    def upstreams(self) -> list[UpstreamState]:
        """How each upstream stands."""
        return self._fleet.states()

    def drain(self, name: str, *, wanted: bool, try_only: bool = False) -> bool:
        """See :class:`~extracot_server.engine.base.Fronting`."""
        return self._fleet.drain(name, wanted=wanted, try_only=try_only)

    async def use_upstreams(
        self, wanted: Sequence[UpstreamSettings], canary: Collection[str]
    ) -> None:
        """Have these from now on, all at once; what runs on others ends there.

        Raises :class:`UpstreamMismatchError`, and changes nothing, where a new one serves something
        else, or where requests would find none while they do now.
        """
        known = [upstream.url for upstream in self._upstreams]
        added = [one.url for one in wanted if one.url not in known]
        await asyncio.gather(*(tell_shared(url, self._resolve) for url in added))
        after = await replacing(self._fleet, wanted, canary, self._keeping, self._connect)
        for upstream, settings in after:
            upstream.use(settings)
        for upstream in self._fleet.replace([upstream for upstream, _ in after], canary):
            self._left.add(upstream)
            self._spawn(self._see_off(upstream))

    async def _see_off(self, upstream: Upstream) -> None:
        """Close one that is gone from the settings, once it has finished what it has."""
        idle = asyncio.Event()
        upstream.changed = lambda: None if upstream.in_flight else idle.set()
        upstream.changed()
        await idle.wait()
        self._left.discard(upstream)
        await upstream.aclose()

    async def in_flight(self) -> int:
        """Requests of this process that an upstream is working on."""
        return sum(upstream.in_flight for upstream in (*self._upstreams, *self._left))

    async def close(self, grace_seconds: float) -> None:
        """Wait up to ``grace_seconds`` for running requests, then drop them. Idempotent."""
        if self._unusable is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._idle.wait()
        self._unusable = EngineClosedError()
        upstreams = [*self._upstreams, *self._left]
        for upstream in upstreams:
            upstream.drop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for upstream in upstreams:
            await upstream.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
