"""JSON schemas and vLLM's grammar backends: how a format is handed over, and what it refuses late.

vLLM 0.32 asks guidance only whether a schema parses: `{"$ref": "#"}` does, and the reply is empty.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from extracot_server.engine.base import AnswerFormat, EngineBusyError

_SECONDS = 10.0
_TURN_SECONDS = 10.0
_AT_ONCE = 2
_TOO_LONG = "it takes too long to compile; try a simpler one"
_CPU_SECONDS = 1.0  # vLLM compiles once more for each request, and on the event loop
_STEPS = 48
_FIRST = b'"}],:{['


class Compiler:
    """Asks ``refuses``, which compiles a schema, in threads: few at once, and within a time.

    Only a schema that keeps within the limits on sizes comes here; none is known that takes as
    long. One that did would keep its thread until it is done.
    """

    def __init__(self, refuses: Callable[[Mapping[str, Any]], str | None]) -> None:
        self._refuses = refuses
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def refusal(self, schema: Mapping[str, Any]) -> str | None:
        """Why a schema is refused; ``None``: it is not.

        :class:`EngineBusyError` where others are compiled all the time: nothing is known of it.
        """
        try:
            await asyncio.wait_for(self._slots.acquire(), _TURN_SECONDS)
        except TimeoutError:
            raise EngineBusyError("other schemas are being compiled", retry_after=10) from None
        work = asyncio.ensure_future(asyncio.to_thread(self._timed, schema))
        work.add_done_callback(lambda _: self._slots.release())
        done, _ = await asyncio.wait({work}, timeout=_SECONDS)
        return work.result() if done else _TOO_LONG

    def _timed(self, schema: Mapping[str, Any]) -> str | None:
        began = time.thread_time()
        found = self._refuses(schema)
        long = time.thread_time() - began > _CPU_SECONDS
        return _TOO_LONG if found is None and long else found


def grammar_of(wanted: AnswerFormat | None) -> Any:
    """A format as vLLM's StructuredOutputsParams."""
    from vllm.sampling_params import StructuredOutputsParams

    if wanted is None:
        return None
    if wanted.kind == "json_object":
        return StructuredOutputsParams(json_object=True)
    return StructuredOutputsParams(json=json.dumps(dict(wanted.schema or {})))


def complaint(schema: Mapping[str, Any]) -> str | None:
    """Why guidance would give up on a schema while a text is written; ``None``: it would not.

    vLLM asks it only whether the schema parses. Here a short text is written, byte by byte.
    """
    import llguidance

    grammar = llguidance.LLMatcher.grammar_from_json_schema(
        json.dumps(dict(schema)), defaults={"whitespace_flexible": False}
    )
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0)
    for step in range(_STEPS):
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error():
            return str(matcher.get_error()).partition("\n")[0][:200]
        if matcher.is_stopped():
            return None if step else "no value keeps to it"
        allowed = [byte for byte in range(256) if mask[byte // 8] >> (byte % 8) & 1]
        if not allowed:  # nothing but the end
            return None
        matcher.consume_token(next((b for b in _FIRST if b in allowed), allowed[0]))
    return None


def settle_backend(llm: Any) -> None:
    """Use xgrammar where guidance, which is measured to be better, has no use for the tokenizer.

    Internal to vLLM: its engine process takes the backend that the first request names.
    """
    from vllm.v1.structured_output.backend_guidance import GuidanceBackend

    config = llm.vllm_config.structured_outputs_config
    if config.backend == "guidance" and not GuidanceBackend.is_tokenizer_supported(
        llm.get_tokenizer()
    ):
        config.backend = "xgrammar"
