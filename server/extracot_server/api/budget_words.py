"""Budgets in other vendors' words: one table, each word read as our `budget` or refused.

``WORDS`` holds what every API takes at the top level of a body; a row is how its value is read
(:mod:`.budget_readers`), so that a word is mapped, or refused, by changing its row. Null says
nothing in any of them. Also knows what looks like such a word and is none of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from extracot_server.api.budget_readers import (
    APART,
    CAP,
    CLOSING,
    EFFORT,
    HIDDEN,
    LIMIT,
    SHOWN,
    SWITCH,
    Either,
    Flattened,
    Inside,
    Say,
    Table,
    TemplateVariables,
    Unread,
    Words,
    snake,
)
from extracot_server.errors import BudgetError

_THINKING = Inside(
    {
        "type": Words(
            {
                "enabled": {"thinks": True},
                "disabled": {"thinks": False},
                "adaptive": {},
                "auto": {},
            }
        ),
        "budget_tokens": CAP,
        "token_budget": CAP,  # Cohere
        "display": Words({"omitted": {"shown": False}, "summarized": {}, "updates": {}}),
    }
)
_OPENROUTER = Inside(
    {
        "type": _THINKING.table["type"],
        "effort": EFFORT,
        "max_tokens": CAP,
        "enabled": SWITCH,
        "exclude": HIDDEN,
    }
)
_GEMINI = Inside(
    {
        "thinking_budget": LIMIT,
        "include_thoughts": SHOWN,
        "thinking_level": EFFORT,
    },
    strict=True,
)
_TEMPLATE = TemplateVariables(
    {
        "enable_thinking": SWITCH,
        "thinking": SWITCH,
        "thinking_budget": LIMIT,
        "reasoning_effort": EFFORT,
    }
)
_LAYOUT = Words(
    {
        "parsed": {"separate": True},
        "deepseek": {"separate": True},
        "raw": {"separate": False},
        "none": {"separate": False},
        "hidden": {"shown": False},
        "auto": {},
    }
)
_TASK_BUDGET = Unread("use `budget`, which bounds the reasoning of each reply")
_OUTPUT_CONFIG = Inside({"effort": EFFORT, "task_budget": _TASK_BUDGET}, frozenset(["format"]))
MESSAGES_WORDS: Table = {"thinking": Either(SWITCH, _THINKING), "output_config": _OUTPUT_CONFIG}
"""Fields of Anthropic's own API that hold words of the table."""
_TOP: Table = {
    # a switch
    "enable_thinking": SWITCH,  # Qwen, DashScope
    "enable_reasoning": SWITCH,
    "think": Either(SWITCH, EFFORT),  # Ollama
    "thinking": Either(SWITCH, _THINKING),  # Anthropic; GLM, Kimi, DeepSeek, Doubao
    # a number of tokens
    "max_reasoning_tokens": CAP,  # our own, one level up
    "max_thinking_tokens": CAP,  # NVIDIA
    "reasoning_max_tokens": CAP,
    "budget_tokens": CAP,  # Anthropic, one level up
    "thinking_token_budget": LIMIT,  # vLLM
    "thinking_budget_tokens": LIMIT,  # llama.cpp
    "thinking_budget": LIMIT,  # DashScope, SiliconFlow
    "reasoning_budget": LIMIT,  # llama.cpp
    "reasoning_budget_tokens": LIMIT,
    # what ends reasoning that is cut off
    "reasoning_budget_message": CLOSING,  # llama.cpp
    # an effort
    "effort": EFFORT,
    "thinking_effort": EFFORT,
    "thinking_level": EFFORT,  # Gemini
    # what is shown
    "include_reasoning": SHOWN,  # ours, where an API has another name for it
    "include_thoughts": SHOWN,  # Gemini
    # where it is shown
    "separate_reasoning": APART,  # SGLang
    "reasoning_format": _LAYOUT,  # Groq, llama.cpp
    # objects
    "reasoning": _OPENROUTER,
    "reasoning_config": _THINKING,  # Bedrock
    "thinking_config": _GEMINI,
    "chat_template_kwargs": _TEMPLATE,  # vLLM, SGLang
    "output_config": Inside(_OUTPUT_CONFIG.table, strict=True),  # Anthropic
    "task_budget": _TASK_BUDGET,
    "nvext": Inside({"max_thinking_tokens": CAP}, strict=True),  # NVIDIA
    "google": Inside({"thinking_config": _GEMINI}, strict=True),
    "generation_config": Inside({"thinking_config": _GEMINI}, strict=True),
}
WORDS: Table = MappingProxyType(
    {
        **_TOP,
        # What SDKs would have put at the top level, sent as it is (Gemini's documents do so).
        "extra_body": Flattened(_TOP),
    }
)
"""Each word, in snake case, and how its value is read."""

_OURS = ("reasoning_effort", "reasoning_field")
_THOUGHT = "think thinking thought thoughts reason reasoning cot"
_BOUND = """budget budgets token tokens max min limit cap level ratio length depth deep steps mode
enable enabled disable disabled no on off use allow skip force with without do options config
intensity strength"""
_BY_ITSELF = "budget effort nothink nothinking"
_NESTED = frozenset({*WORDS, "reasoning_effort", "budget"})
_DEEPEST = 4  # levels of objects inside each other in which a word is looked for
_WIDEST = 256  # keys of one; larger ones are data, and
_MOST = 1000  # so are more values than this in all
_LONGEST = 48  # longer names are no near miss of any of these,
_SHORTEST = 8  # and shorter ones are near to too much (`next` to `nvext`)


def responses_words(own: Iterable[str]) -> Table:
    """Fields of the Responses API that do; ``own`` are those of its `reasoning`."""
    return {"reasoning": Inside(_OPENROUTER.table, frozenset(own))}


def check_unknown(key: str, known: Mapping[str, Any]) -> None:
    """Raise :class:`BudgetError` for a field that none knows and that seems to be a budget.

    ``known`` are the fields of the API. Anything else is no budget, and is left alone.
    """
    name = key[:64]
    if len(key) > _LONGEST:
        return
    flat = snake(key)
    near = difflib.get_close_matches(flat, ["budget"], n=1, cutoff=0.75)
    ours = [one for one in _OURS if one in known]
    near = near or difflib.get_close_matches(flat, _alike(flat, ours), n=1, cutoff=0.85)
    if near:
        text = f"Unknown field `{name}`; did you mean `{near[0]}`?"
        hint = "" if near[0] == "budget" else " Or use `budget`."
        raise BudgetError(text + hint, param=name)
    parts = set(flat.split("_"))
    bounds = parts & set(_THOUGHT.split()) and parts & set(_BOUND.split())
    if bounds or parts & set(_BY_ITSELF.split()):
        text = f"Unknown field `{name}`; to bound the reasoning use `budget`."
        raise BudgetError(text, param=name)


def check_inside(key: str, value: Any) -> None:
    """Raise :class:`BudgetError` for a word inside an object that none knows.

    Vendors have objects for their own parameters (`options`, `parameters`, `custom_params`), and a
    client that puts a budget there must not get native reasoning. Notes on a request
    (`client_metadata`) say what they like.
    """
    if not isinstance(value, Mapping) or "metadata" in snake(key):
        return
    left: list[tuple[str, Mapping[str, Any], int]] = [(key[:64], value, 1)]
    for where, inner, depth in left:
        for name, held in inner.items() if len(inner) <= _WIDEST else ():
            if held is not None and snake(name[:_LONGEST]) in _NESTED:
                what = f"is not read there; send `{name}` at the body's top level, or use `budget`."
                raise BudgetError.of(f"{where}.{name}", what)
            if isinstance(held, Mapping) and depth < _DEEPEST and len(left) < _MOST:
                left.append((f"{where}.{name[:64]}", held, depth + 1))


def _alike(name: str, ours: list[str]) -> list[str]:
    """Words that begin or end as a name does, for comparing with all of them takes long."""
    start, end = name[:3], name[-3:]
    return [
        word
        for word in (*ours, *WORDS)
        if len(word) >= _SHORTEST and (word.startswith(start) or word.endswith(end))
    ]


def read_words(
    body: Mapping[str, Any], known: Mapping[str, Any], also: Table
) -> tuple[list[Say], frozenset[str]]:
    """What a body's words say of the reasoning, and the keys that were words.

    ``known`` are the API's own fields: their values are the API's to read, but for what stands
    inside those of ``also``. Raises :class:`extracot_server.errors.InvalidRequestError`.
    """
    says: list[Say] = []
    words: set[str] = set()
    for key, value in body.items():
        row = also.get(key) if key in known else WORDS.get(snake(key))
        if row is None:
            continue
        words.add(key)
        if value is not None:
            says += row.read(value, key)
    return says, frozenset(words)


def nested(also: Table, body: Mapping[str, Any]) -> list[str]:
    """Paths of keys inside the objects of words that no reader knows, for the report."""
    return [
        f"{key}.{inner[:64]}"
        for key, value in body.items()
        if isinstance(row := also.get(key) or WORDS.get(snake(key)), Inside | Either)
        for inner in row.unknown(value)
    ]
