"""Reads tool calls from an answer as it arrives: a grammar's JSON here, a model's own elsewhere.

``hermes`` is built in (:mod:`extracot_server.tool_calls.hermes`). Other formats are vLLM's parsers'
business (:mod:`extracot_server.tool_calls.vllm`), which are imported only when one is asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from extracot.prompt import Tokenizer
from extracot_server.config.setting_values import SettingsError
from extracot_server.tool_calls.call_object import CallObject
from extracot_server.tool_calls.hermes import HermesFormat
from extracot_server.tool_calls.hermes import HermesReader as HermesReader
from extracot_server.tool_calls.tools import CallPart, CallReaderFactory, new_call_id

_BUILT_IN = "hermes"
_NO_PARSER = "none"
_OF_VLLM = "vllm:"
"""Before the name of a parser that is vLLM's also where there is one of ours by that name."""


class NamedReader:
    """The answer is the arguments of one certain function."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = False

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        if not text:
            return []
        start = [] if self._begun else [CallPart(0, id=new_call_id(), name=self._name)]
        self._begun = True
        return [*start, CallPart(0, text)]

    def finish(self) -> list[str | CallPart]:
        """Nothing is held back."""
        return []


class RequiredReader:
    """The answer is a JSON list of calls, as a grammar makes it."""

    def __init__(self) -> None:
        self._call: CallObject | None = None
        self._count = 0

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        out: list[str | CallPart] = []
        while text:
            if self._call is None:
                start = text.find("{")
                if start < 0:
                    break
                text = text[start:]
                self._call = CallObject(self._count)
            parts, taken = self._call.feed(text)
            out += parts
            text = text[taken:]
            if self._call.ended:
                out += self.finish()
        return out

    def finish(self) -> list[str | CallPart]:
        """A call that was cut off, as far as it got."""
        if self._call is None:
            return []
        out: list[str | CallPart] = [*self._call.finish()]
        self._count += self._call.named
        self._call = None
        return out


def call_reader_factory(
    name: str | None, engine: str, tokenizer: Tokenizer
) -> CallReaderFactory | None:
    """Readers of the format ``name`` for an engine of that kind; ``None`` where none is set.

    ``hermes`` is ours wherever it runs; any other name is one of vLLM's parsers, and so is
    ``vllm:hermes``. Raises :class:`SettingsError` for a name there is not.
    """
    if name is None or name == _NO_PARSER:
        return None
    if name == _BUILT_IN:
        return HermesFormat(tokenizer)
    if engine == "scripted" or importlib.util.find_spec("vllm") is None:
        why = "has only hermes" if engine == "scripted" else "has only hermes without vLLM"
        raise SettingsError(f"tool_parser is {name!r:.60}: engine {engine} {why}")
    from extracot_server.tool_calls.vllm import vllm_reader_factory

    return vllm_reader_factory(name.removeprefix(_OF_VLLM), tokenizer)
