"""An answer's format where there are tools too, and whether an answer has kept to it.

With tools and a format the reply is calls or an answer in that format: one token decides, drawn
among those that begin either, and a grammar makes the whole of what was chosen. So it holds for
any engine, and whatever the model writes its calls like.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from extracot.prompt import Tokenizer
from extracot_server.engine.base import AnswerFormat
from extracot_server.tool_calls.tools import ToolUse

CALL_OPENERS = {
    **dict.fromkeys(("hermes", "qwen3_coder", "qwen3_xml", "glm45", "glm47"), "<tool_call>"),
    "mistral": "[TOOL_CALLS]",
    **dict.fromkeys(("deepseek_v3", "deepseek_v31"), "<｜tool▁calls▁begin｜>"),
    "kimi_k2": "<|tool_calls_section_begin|>",
    "jamba": "<tool_calls>",
}
"""How calls begin, by the names of the tool parsers for which that is certain."""
_OBJECT = ("{", '{"', "{}")
_OTHERS = ("[", "[{", '["', "[]", '"', "-", *"0123456789", "true", "false", "null")
_BREAK = "\n\n"


@dataclass(frozen=True, slots=True)
class CallChoice:
    """The first ids of calls and of an answer in the format, and what both are written after."""

    calls: AnswerFormat
    begins_call: tuple[int, ...]
    begins_answer: tuple[int, ...]
    line_break: tuple[int, ...]

    @property
    def allowed(self) -> tuple[int, ...]:
        """The ids that decide; those of an answer come first."""
        return (*self.begins_answer, *self.begins_call)


def call_choice(
    tools: ToolUse | None, wanted: AnswerFormat | None, opener: str | None, tokenizer: Tokenizer
) -> CallChoice | None:
    """The choice that a request leaves to the model; ``None`` where it leaves none.

    ``opener`` is how the model begins a call. Raises ``ValueError`` where its first token tells
    nothing.
    """
    if tools is None or tools.forced or wanted is None:
        return None
    if opener is None:
        raise ValueError("how this model begins a call is not known")
    plain = dict(wanted.schema or {"type": "object"})
    texts = _OBJECT if plain.get("type") == "object" else (*_OBJECT, *_OTHERS)
    answer = {_first(tokenizer, text) for text in texts}
    call = {_first(tokenizer, opener)}
    if call & answer:
        raise ValueError("this model's calls and JSON begin with the same token")
    line_break = tuple(tokenizer.encode(_BREAK, add_special_tokens=False))
    ordered = tuple(sorted(answer))
    return CallChoice(tools.calls_format(), tuple(call), ordered, line_break)


def _first(tokenizer: Tokenizer, text: str) -> int:
    """The first id of a text on a new line: at a beginning some tokenizers add a space."""
    before = tokenizer.encode("\n", add_special_tokens=False)
    whole = tokenizer.encode(f"\n{text}", add_special_tokens=False)
    if whole[: len(before)] == before and len(whole) > len(before):
        return whole[len(before)]
    return tokenizer.encode(text, add_special_tokens=False)[0]


def holds_json(text: str) -> bool:
    """Whether a text begins with a whole JSON value, which is all that a grammar lets end."""
    try:
        json.JSONDecoder(strict=False).raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return False
    return True
