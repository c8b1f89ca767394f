"""vLLM's tool parsers as readers of calls: the formats of some forty families of models.

Beside ``engine.vllm.engine`` the only file that imports vLLM, and it does so when a
parser is asked for. Knows no HTTP and no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extracot.prompt import Tokenizer
from extracot_server.config.setting_values import SettingsError
from extracot_server.engine.base import EngineError
from extracot_server.tool_calls.tools import CallPart, CallReaderFactory, ToolUse, new_call_id


def vllm_reader_factory(name: str, tokenizer: Tokenizer) -> CallReaderFactory:
    """Readers by vLLM's parser ``name``; raises :class:`SettingsError` if there is none."""
    from vllm.tool_parsers import ToolParserManager

    names = ToolParserManager.list_registered()
    if name not in names:
        raise SettingsError(f"tool_parser is {name!r:.60}; vLLM has {', '.join(sorted(names))}")
    parser = ToolParserManager.get_tool_parser(name)
    try:
        parser(tokenizer)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"tool_parser {name} does not fit this model: {reason}") from error
    return lambda tools: VllmCallReader(parser, tokenizer, tools)


class VllmCallReader:
    """One answer, read by one of vLLM's parsers."""

    def __init__(self, parser: Any, tokenizer: Tokenizer, tools: ToolUse) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        self._request = ChatCompletionRequest(
            model="model",
            messages=[{"role": "user", "content": "-"}],
            tools=list(tools.tools),
            tool_choice="auto",
        )
        self._parser = parser(tokenizer, self._request.tools)
        self._limit = None if tools.parallel else 1
        self._text = ""
        self._ids: list[int] = []
        self._shown = 0
        self._named: set[int] = set()
        self._held: list[str] = []
        """Text after a call began: calls come whole, whatever a parser still keeps of them."""

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        before, ids_before = self._text, self._ids
        self._text, self._ids = before + text, [*ids_before, *token_ids]
        try:
            found = self._parser.extract_tool_calls_streaming(
                before, self._text, text, ids_before, self._ids, list(token_ids), self._request
            )
        except Exception as error:  # foreign code on a model's words: it may raise anything at all
            raise EngineError(f"vLLM's tool parser failed: {error}") from error
        return self._parts(found) if found is not None else []

    def finish(self) -> list[str | CallPart]:
        """Arguments and text that the parser still holds back."""
        out: list[str | CallPart] = []
        rest = self._parser.get_remaining_unstreamed_args()
        if rest and self._named and self._within(max(self._named)):
            out.append(CallPart(max(self._named), rest))
        if not self._named and self._shown < len(self._text):
            out.append(self._text[self._shown :])
        return out + self._held

    def _parts(self, found: Any) -> list[str | CallPart]:
        out: list[str | CallPart] = []
        if found.content:
            self._shown += len(found.content)
            (self._held if self._named else out).append(found.content)
        for item in found.tool_calls or ():
            function = item.function
            if function is None or not self._within(item.index):
                continue
            if function.name and item.index not in self._named:
                self._named.add(item.index)
                call_id = item.id or new_call_id()
                out.append(CallPart(item.index, id=call_id, name=function.name))
            if function.arguments and item.index in self._named:
                out.append(CallPart(item.index, function.arguments))
        return out

    def _within(self, index: int) -> bool:
        return self._limit is None or index < self._limit
