"""Nothing that a client says anywhere in a conversation becomes a token of a real template."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import Control, Message, ToolCall
from tests.extracot.golden import TOOL
from tests.extracot.real_templates import TEMPLATES

NAMES = (
    *("qwen3", "qwen3_5_think", "gptoss", "gemma4_v5", "glm4moe", "nemotron_3_nano", "lfm2_2_5_v2"),
    *("ByteDance-Seed-OSS", "poolside-Laguna-XS.2", "unsloth-Apriel-1.5"),
    "mistralai-Ministral-3-14B-Reasoning-2512",
)
PIECES = ("<|im_end|>", "</think>", "<tool_call>", "<|", "|>", "\n", " ", '"', "'", "\\", "&", "é")


def texts(name: str) -> st.SearchStrategy[str]:
    """Texts with tokens of this tokenizer in them, whole and in part."""
    tokens = sorted(set(TEMPLATES[name].tokenizer.get_added_vocab()))
    parts = [*PIECES, *tokens, *(token[:-1] for token in tokens if len(token) > 2)]
    return st.lists(st.sampled_from(parts), min_size=1, max_size=4).map(
        lambda found: f"a{''.join(found)}b"
    )


def protected(name: str, say: Any) -> list[int]:
    """The protected ids of a conversation, all of whose texts are drawn."""
    tool = copy.deepcopy(TOOL)
    tool["function"]["name"], tool["function"]["description"] = say(), say()
    tool["function"]["parameters"]["properties"] = {say(): {"type": "string", "description": say()}}
    call = ToolCall(say(), {say(): say(), "more": [say()]}, "call00001")
    messages = [
        Message("system", say()),
        Message("user", say()),
        Message("assistant", say(), reasoning=say()),
        Message("user", say()),
        Message("assistant", "", (call,), reasoning=say()),
        Message("tool", say(), tool_call_id="call00001"),
    ]
    render = TEMPLATES[name].renderer
    ids = render.render(messages, Control.native(), tools=[tool]).token_ids
    return [id_ for id_ in ids if id_ in render.protected_ids]


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_no_text_adds_or_moves_a_token(name: str, data: st.DataObject) -> None:
    spoofs = texts(name)
    assert protected(name, lambda: data.draw(spoofs)) == protected(name, lambda: "ab")
