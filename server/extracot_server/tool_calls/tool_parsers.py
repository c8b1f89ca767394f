"""Which reader of tool calls goes with a model: a name of the operator's, made into a factory.

vLLM's parsers are imported only when one is asked for. Knows no format itself.
"""

from __future__ import annotations

import importlib.util

from extracot.prompt import Tokenizer
from extracot_server.config.setting_values import SettingsError
from extracot_server.tool_calls.tool_reading import HermesReader
from extracot_server.tool_calls.tools import CallReader, CallReaderFactory, ToolUse

BUILT_IN = "hermes"


def call_reader_factory(
    name: str | None, engine: str, tokenizer: Tokenizer
) -> CallReaderFactory | None:
    """Readers of the format ``name`` for an engine of that kind; ``None`` where none is set.

    ``hermes`` is built in for where vLLM is not installed, and for the scripted engine; all others,
    and it too where vLLM is, are vLLM's. Raises :class:`SettingsError` for a name there is not.
    """
    if name is None:
        return None
    if engine == "scripted" or importlib.util.find_spec("vllm") is None:
        if name == BUILT_IN:
            return _hermes
        why = "speaks hermes only" if engine == "scripted" else "needs vLLM for any but hermes"
        raise SettingsError(f"tool_parser is {name!r:.60}: engine {engine} {why}")
    from extracot_server.tool_calls.vllm import vllm_reader_factory

    return vllm_reader_factory(name, tokenizer)


def _hermes(tools: ToolUse) -> CallReader:
    return HermesReader(parallel=tools.parallel)
