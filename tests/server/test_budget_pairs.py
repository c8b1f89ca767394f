"""Every pair of fields that set a budget, in any words: both hold, or a 400 names both.

What each field means is said here once more, apart from the code, and each pair is tried in both
orders.
"""

from __future__ import annotations

import re
from itertools import permutations
from typing import Any

from extracot_server.api.budget_asked import Asked, join_words
from extracot_server.api.chat.request import ChatCompletionRequest
from extracot_server.budget.values import parse_alias
from extracot_server.errors import InvalidRequestError
from tests.server.live import user

OFF, ON, SILENT = "off", "on", "silent"
Meaning = str | int
"""Off, on (some reasoning), nothing; a cap in tokens; or an effort."""
FIELDS: list[tuple[dict[str, Any], Meaning]] = [
    *(({name: False}, OFF) for name in ("enable_thinking", "enable_reasoning", "think")),
    *(({name: True}, ON) for name in ("enable_thinking", "enable_reasoning", "think", "thinking")),
    ({"thinking": {"type": "disabled"}}, OFF),
    ({"thinking": {"type": "enabled"}}, ON),
    ({"thinking": {"type": "adaptive"}}, SILENT),
    ({"thinking": {"budget_tokens": 7}}, 7),
    ({"reasoning_config": {"budget_tokens": 9}}, 9),
    ({"reasoning": {"enabled": False}}, OFF),
    ({"reasoning": {"enabled": True}}, ON),
    ({"reasoning": {"max_tokens": 7}}, 7),
    ({"reasoning": {"effort": "low"}}, "low"),
    ({"reasoning": {"effort": "none"}}, "none"),
    ({"reasoning": {"exclude": True}}, SILENT),
    *(({name: 7}, 7) for name in ("max_reasoning_tokens", "thinking_token_budget")),
    *(({name: 9}, 9) for name in ("thinking_budget", "reasoning_budget", "budget_tokens")),
    *(({name: 0}, OFF) for name in ("thinking_budget", "max_thinking_tokens")),
    *(({name: -1}, ON) for name in ("thinking_budget", "reasoning_budget_tokens")),
    ({"nvext": {"max_thinking_tokens": 7}}, 7),
    ({"thinking_config": {"thinking_budget": 9, "include_thoughts": False}}, 9),
    ({"google": {"thinking_config": {"thinking_level": "high"}}}, "high"),
    ({"chat_template_kwargs": {"enable_thinking": False}}, OFF),
    ({"chat_template_kwargs": {"thinking": True}}, ON),
    ({"chat_template_kwargs": {"thinking_budget": 7}}, 7),
    ({"chat_template_kwargs": {"reasoning_effort": "low"}}, "low"),
    ({"think": "high"}, "high"),
    ({"effort": "none"}, "none"),
    ({"output_config": {"effort": "low"}}, "low"),
    ({"reasoning_effort": "high"}, "high"),
    ({"reasoning_effort": "none"}, "none"),
    ({"budget": "none"}, OFF),
    ({"budget": {"max_reasoning_tokens": 0}}, OFF),
    ({"budget": {"max_reasoning_tokens": 7}}, 7),
    ({"model": "m@none"}, OFF),
    ({"separate_reasoning": False}, SILENT),
    ({"reasoning_budget_message": "Time is up."}, SILENT),
]
OF_ALL = "output_config"  # Anthropic's effort is of the answer as well
NONE_AT_ALL = ({"budget": "none"}, {"model": "m@none"})
LEADS = ("budget", "model")  # they decide over an effort, which is only a default beside them


def agree(one: tuple[dict[str, Any], Meaning], other: tuple[dict[str, Any], Meaning]) -> bool:
    """Whether both can hold."""
    (fields, meaning), (others, meant) = one, other
    if SILENT in (meaning, meant):
        return True
    names = {*fields, *others}
    efforts = [m for m in (meaning, meant) if isinstance(m, str) and m not in (OFF, ON)]
    if len(efforts) == 2:
        return meaning == meant
    if efforts and names & set(LEADS):
        return True
    if any(pair in NONE_AT_ALL for pair in (fields, others)) and not {ON} & {meaning, meant}:
        return True  # within any bound
    none = {OFF, "none"}
    if efforts and efforts[0] != "none" and OF_ALL in names and none & {meaning, meant}:
        return True
    if (meaning in none) != (meant in none):
        # An effort of none is a default, which a cap may stand beside.
        return "none" in (meaning, meant) and ON not in (meaning, meant)
    caps = [m for m in (meaning, meant) if isinstance(m, int)]
    return len(caps) < 2 or caps[0] == caps[1]


def joined(fields: dict[str, Any]) -> str:
    """What is wrong with a body, or nothing."""
    try:
        body = ChatCompletionRequest.read({"messages": user(), **fields})
        alias = parse_alias((body.model or "").rpartition("@")[2])
        join_words(body.says, Asked(body.budget, body.reasoning_effort, "reasoning_effort"), alias)
    except InvalidRequestError as error:
        return str(error)
    return ""


def test_each_pair_holds_or_is_refused_by_both_names() -> None:
    tried = refused = 0
    for one, other in permutations(FIELDS, 2):
        if one[0].keys() & other[0].keys():
            continue
        tried += 1
        message = joined({**one[0], **other[0]})
        assert bool(message) is not agree(one, other), (one, other, message)
        if message:
            refused += 1
            named = set(re.findall(r"`([a-z_]+)", message))
            assert {*one[0], *other[0]} <= named, (one, other, message)
    assert tried > 1500 and refused > 400


def test_each_field_by_itself_is_taken() -> None:
    for fields, _ in FIELDS:
        assert joined(fields) == ""
