"""vLLM inside the server process, behind the engine protocol. Only `fork_server` beside it
imports vLLM.

The import happens in :meth:`VllmEngine.start`, so that everything else stays quick. Written for
vLLM 0.32; what is internal to it sits in functions of its own (`_ping`, `_has_work`). Budgets,
reasoning blocks, text and HTTP are unknown here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import sys
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Mapping
from pathlib import Path
from typing import Any, cast

from prometheus_client.registry import Collector

from extracot.prompt import Tokenizer
from extracot_server.engine.base import (
    AnswerFormat,
    EngineClosedError,
    EngineDeadError,
    EngineError,
    EngineInfo,
    EngineRequestError,
    EngineStartError,
    GenerationDelta,
    GenerationRequest,
)
from extracot_server.engine.grammar_checks import GrammarChecks
from extracot_server.engine.lora import Adapter, adapter_arguments, read_adapters
from extracot_server.engine.vllm import fork_server
from extracot_server.engine.vllm.arguments import check_folder, engine_arguments
from extracot_server.engine.vllm.child_output import ChildOutput
from extracot_server.engine.vllm.grammars import Compiler, complaint, grammar_of, settle_backend
from extracot_server.engine.vllm.orphans import Guard
from extracot_server.engine.vllm.outputs import outputs_of
from extracot_server.engine.vllm.process import (
    NOISE,
    collect,
    end,
    eos_ids,
    import_engine,
    kill,
    own_collectors,
    prepare_environment,
    process_ids,
)
from extracot_server.engine.vllm.pulse import Pulse
from extracot_server.engine.vllm.requests import delta, refusal, sampling_values
from extracot_server.engine.vllm.start_errors import explain_start
from extracot_server.freeze_gc import frozen

_log = logging.getLogger(__name__)
_DEATH_SECONDS = 10.0  # for running requests to hear that their engine was killed


class VllmEngine:
    """An :class:`~extracot_server.engine.base.Engine` on vLLM's AsyncLLM.

    ``model`` is a folder or a hub id; ``engine_args`` are any fields of vLLM's AsyncEngineArgs
    (text is read as YAML). ``shutdown_grace`` is how long, in seconds, the engine process lets
    requests run on when it is told to stop. An engine that answers nothing for ``stall_seconds``
    is reported as dead until it answers again. ``served_name`` is what vLLM's own metrics call the
    model; ``adapters`` are folders of LoRA adapters by their names. ``grammar_backend`` is vLLM's
    for structured outputs; ``auto`` is the better one that the model's tokenizer works with.
    """

    def __init__(
        self,
        model: str,
        *,
        engine_args: Mapping[str, Any],
        shutdown_grace: float,
        stall_seconds: float = 120.0,
        served_name: str | None = None,
        adapters: Mapping[str, str] | None = None,
        grammar_backend: str = "auto",
    ) -> None:
        self.source = model
        """Folder or hub id of the weights."""
        self._served_name = served_name
        self.adapters = dict(adapters or {})
        self._known: dict[str, Adapter] = {}
        self.collectors: list[Collector] = []
        """vLLM's own metrics of this engine."""
        self._engine_args = dict(engine_args)
        self._shutdown_grace = shutdown_grace
        self._pulse = Pulse(self._ping, stall_seconds)
        self._llm: Any = None
        self._backend = grammar_backend
        compiler = Compiler(self._refusal_of)
        self._grammars = GrammarChecks(compiler.refusal, lambda: self._grammar_config().backend)
        self._guard: Guard | None = None
        self._closed = False
        self._info: EngineInfo | None = None
        self._defaults: dict[str, Any] = {}
        self._running: Counter[str] = Counter()  # a client may use one name twice
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def info(self) -> EngineInfo:
        """Facts about the running engine; valid after :meth:`start`."""
        if self._info is None:
            raise self._gone()
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the loaded model, as vLLM uses it; valid after :meth:`start`."""
        return cast(Tokenizer, self._alive().get_tokenizer())

    async def start(self) -> None:
        """Import vLLM and load the model, off the event loop.

        Raises :class:`EngineStartError` in one line.
        """
        check_folder(Path(self.source), self._engine_args)
        self._known = read_adapters(self.adapters, self.source)
        fork_server.start()
        loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(self._discard)
            raise
        if self._backend == "auto":
            settle_backend(self._llm)
        self.collectors = own_collectors()
        self._guard = Guard(process_ids(self._llm))
        try:
            await self._ping()
        except EngineDeadError as error:
            raise EngineStartError(f"cannot serve {self.source}: {error}") from None
        try:
            await self._load_adapters()
        except BaseException:
            llm, self._llm = self._llm, None
            await self._release(llm)
            raise
        self._info = self._describe()
        self._defaults = self._llm.model_config.get_diff_sampling_param()

    async def _load_adapters(self) -> None:
        """Before any request: one that asks for an adapter vLLM cannot load ends the engine."""
        for adapter in self._known.values():
            try:
                loaded = await self._llm.add_lora(_lora_request(adapter))
            except Exception as error:  # whatever vLLM and the adapter's files raise
                _log.debug("adapter %s", adapter.name, exc_info=error)
                lines = str(error).strip().splitlines()
                cause = f"{lines[-1]:.300}" if lines else type(error).__name__
            else:
                cause = "" if loaded else "vLLM refused it"
            if cause:
                raise EngineStartError(f"adapter {adapter.name} cannot be loaded: {cause}")

    async def restart(self) -> None:
        """Kill what is left of the engine, fail requests that wait for it, and load again.

        A process that was stopped (or waits for a lock for ever) obeys nothing else.
        """
        llm, self._llm = self._llm, None
        if llm is not None:
            kill(llm)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DEATH_SECONDS):
                    await self._idle.wait()
            await self._release(llm)
            del llm
            collect()
        await self.start()

    def _load(self) -> None:
        """Set ``_llm``. Not returned: a finished future would keep the engine after its end."""
        level = os.environ.get("VLLM_LOGGING_LEVEL", "").upper()
        prepare_environment()
        output = ChildOutput(hold=level not in ("DEBUG", "INFO"), drop=NOISE)
        # Whatever vLLM and the model's own files raise while loading ends the start alike.
        try:
            with output:
                import_engine()
                self._llm = fork_server.build(self._arguments())
            return
        except EngineStartError:
            raise
        except Exception as error:
            # As text: a log record that keeps the exception would keep sockets open with it.
            _log.debug("vLLM did not start:\n%s", "".join(traceback.format_exception(error)))
            output.drain()
            if "vllm" not in sys.modules:
                reason = f"vLLM cannot be imported ({error}): install extracot[cpu] or [cuda]"
            else:
                reason = explain_start(self.source, error, output.held)
        collect()
        raise EngineStartError(reason)  # outside of `except`: no reference to what has failed

    def _arguments(self) -> dict[str, Any]:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform

        return engine_arguments(
            self.source,
            self._engine_args,
            known={field.name for field in dataclasses.fields(AsyncEngineArgs)},
            cpu=bool(current_platform.is_cpu()),
            shutdown_grace=self._shutdown_grace,
            grammar_backend=self._backend,
            defaults=adapter_arguments(self._known)
            | ({} if self._served_name is None else {"served_model_name": [self._served_name]}),
        )

    def _discard(self, loading: asyncio.Future[None]) -> None:
        """Shut down an engine that is no longer needed."""
        if not loading.cancelled() and loading.exception() is None:
            llm, self._llm = self._llm, None
            llm.shutdown()

    def _describe(self) -> EngineInfo:
        import vllm
        from vllm.platforms import current_platform

        config = self._llm.model_config
        return EngineInfo(
            kind="vllm",
            version=str(vllm.__version__),
            model=self.source,
            device=str(current_platform.device_type),
            max_model_len=int(config.max_model_len),
            vocab_size=int(config.get_vocab_size()),
            eos_token_ids=eos_ids(self._llm.get_tokenizer().eos_token_id, config),
            precision=str(config.dtype).removeprefix("torch."),
            model_type=getattr(config.hf_config, "model_type", None),
            architectures=tuple(getattr(config.hf_config, "architectures", None) or ()),
        )

    async def check_format(self, wanted: AnswerFormat) -> None:
        """Refuse a schema that vLLM's grammar backend would refuse, or give up on later."""
        self._alive()
        await self._grammars.check(wanted)

    def _grammar_config(self) -> Any:
        return self._alive().vllm_config.structured_outputs_config

    def _refusal_of(self, schema: Mapping[str, Any]) -> str | None:
        """Why the grammar backend refuses a schema. In a thread: the schema is compiled."""
        from vllm.exceptions import VLLMClientError

        llm = self._alive()
        wanted = AnswerFormat("json_schema", schema)
        probe = GenerationRequest("format", (0,), max_tokens=1, answer_format=wanted)
        config, own = llm.vllm_config, self._grammar_config()
        rest = (config.model_config, config.speculative_config, own, llm.get_tokenizer())
        try:
            self._sampling_params(probe).verify(*rest)
            return complaint(schema) if own.backend == "guidance" else None
        except (VLLMClientError, ValueError, TypeError, RecursionError) as error:
            return str(refusal(error))

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Stream one continuation; closing the generator aborts the request in vLLM."""
        from vllm.exceptions import GracefulHTTPError, VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError as VllmDeadError

        llm = self._alive()
        stream = outputs_of(llm, self._submit(llm, request), request)
        self._running[request.request_id] += 1
        self._idle.clear()
        try:
            async for output in stream:
                yield (found := delta(output.outputs[0], request, output.num_cached_tokens))
                if found.finish_reason is None and (hold := request.hold):
                    await asyncio.sleep(hold)  # vLLM adds up what comes meanwhile
        except (VLLMClientError, GracefulHTTPError) as error:
            raise refusal(error) from None
        except VllmDeadError:
            raise self._gone() from None
        except EngineError:
            raise
        except Exception as error:  # whatever vLLM makes of a request
            raise EngineError(f"the engine failed this request: {error}") from error
        finally:
            await stream.aclose()
            self._running[request.request_id] -= 1
            self._running += Counter()  # without those of which none is left
            if not self._running:
                self._idle.set()

    def _submit(self, llm: Any, request: GenerationRequest) -> Awaitable[Any]:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input

        try:
            params = self._sampling_params(request)
        except (VLLMClientError, ValueError, TypeError) as error:
            raise refusal(error) from None
        adding: Awaitable[Any] = llm.add_request(
            request.request_id,
            tokens_input(list(request.token_ids)),
            params,
            priority=request.priority,
            lora_request=None if request.adapter is None else self._lora(request.adapter),
            # Only matters where the operator set a reasoning parser: without it the grammar would
            # wait for an end tag that this request's own context already holds.
            reasoning_ended=True if request.answer_format is not None else None,
        )
        return adding

    def _lora(self, name: str) -> Any:
        if name not in self._known:
            raise EngineRequestError(f"the engine has no adapter {name}", param="model")
        return _lora_request(self._known[name])

    def _sampling_params(self, request: GenerationRequest) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        return SamplingParams(
            **sampling_values(request, self._defaults),
            structured_outputs=grammar_of(request.answer_format),
            output_kind=RequestOutputKind.DELTA,
            skip_clone=True,  # nobody else has it
        )

    async def check_health(self) -> None:
        """Raise :class:`EngineDeadError` when the engine process is gone or answers nothing."""
        self._alive()
        await self._pulse.check()

    async def in_flight(self) -> int:
        """Requests the engine process holds: 0 only if its scheduler has no work."""
        llm = self._alive()
        known = int(llm.get_num_unfinished_requests())
        return max(known, 1) if await self._has_work() else 0

    async def _ping(self) -> None:
        await self._ask("is_scheduler_paused")

    async def _has_work(self) -> bool:
        return any(await self._ask("has_work"))

    async def _ask(self, question: str) -> list[Any]:
        """One answer per engine process. Internal to vLLM, and all that touches its internals."""
        from vllm.exceptions import VLLMServerError

        try:
            return list(await self._alive().engine_core.call_utility_all_async(question))
        except VLLMServerError:
            raise self._gone() from None

    def _alive(self) -> Any:
        if self._llm is None or self._llm.errored:
            raise self._gone()
        return self._llm

    def _gone(self) -> EngineDeadError:
        if self._closed:
            return EngineClosedError()
        never = self._llm is None and self._info is None
        return EngineDeadError(
            "the engine has not been started" if never else "the vLLM engine process died"
        )

    async def close(self, grace_seconds: float) -> None:
        """Wait up to ``grace_seconds`` for running requests, drop the rest, end the process."""
        llm = self._llm
        if llm is None:
            return
        if not llm.errored:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._idle.wait()
        self._llm, self._closed = None, True
        if self._running and not llm.errored:
            await llm.abort(list(self._running))
        await self._release(llm)
        del llm
        if not frozen():  # a server's process ends now, and with it all that it has frozen
            collect()

    async def _release(self, llm: Any) -> None:
        """End what belongs to an engine that serves no more."""
        await self._pulse.stop()
        await end(llm)
        if self._guard is not None:
            self._guard.release()
            self._guard = None


def _lora_request(adapter: Adapter) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name, adapter.number, str(adapter.folder))
