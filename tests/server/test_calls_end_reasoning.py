"""A call in an open block ends it, where the family's profile says by which token calls begin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.saying_engine import SayingEngine
from tests.fixtures.template_tokenizer import template_tokenizer, trl_templates
from tests.server.live import Live, collect, serve
from tests.server.test_tools import ASK, TOOLS

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

CALL = '<tool_call>\n{"name": "clock", "arguments": {"zone": "Oslo"}}\n</tool_call>'
THOUGHT = "I need the clock."


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """Qwen3's template with a tool parser of vLLM's, which reads the text of an answer."""
    tokenizer = template_tokenizer(trl_templates()["qwen3"])
    engine = SayingEngine(tokenizer, lambda request: [], model_type="qwen3", kind="vllm")
    with serve(on=engine, card="none", tool_parser="vllm:hermes") as found:
        yield found


def calls_of(choice: dict[str, Any]) -> list[tuple[str, Any]]:
    found = choice["message"].get("tool_calls") or []
    return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in found]


def test_a_call_in_an_open_block_ends_it(live: Live) -> None:
    live.engine.says = lambda request: live.engine.ids(f"<think>\n{THOUGHT}\n{CALL}")
    for size in (1, 4, 1000):
        live.engine.size = size
        for fields in ({}, {"budget": {"max_reasoning_tokens": 20}}):
            choice = live.chat(messages=ASK, tools=TOOLS, **fields)["choices"][0]
            assert calls_of(choice) == [("clock", {"zone": "Oslo"})]
            assert choice["message"]["reasoning"] == THOUGHT
            assert choice["finish_reason"] == "tool_calls"
            report = choice["budget"]
            assert (report["closed_by"], report["unclosed"], report["cap_hit"]) == (
                *("model", False),
                False,
            )
            assert report["reasoning_tokens"] == len(THOUGHT)
            assert report["answer_tokens"] > 40
            streamed = collect(live.chunks(messages=ASK, tools=TOOLS, **fields))
            assert streamed["message"]["reasoning"] == THOUGHT
            assert streamed["budget"] == report


def test_without_tools_the_token_is_reasoning(live: Live) -> None:
    live.engine.size = 1
    live.engine.says = lambda request: live.engine.ids(f"<think>\na {CALL} b</think>\n\n4")
    choice = live.chat()["choices"][0]
    assert choice["message"]["content"] == "4"
    assert choice["message"]["reasoning"] == f"a {CALL} b"


def test_the_spelling_is_text(live: Live) -> None:
    tokenizer = live.engine.tokenizer
    text = "I think of <tool_call>. So"
    spelled = [id_ for character in text for id_ in live.engine.ids(character)]
    assert not set(spelled) & set(tokenizer.get_added_vocab().values())
    live.engine.says = lambda request: [
        *live.engine.ids("<think>\n"),
        *spelled,
        *live.engine.ids("</think>\n\n4"),
    ]
    choice = live.chat(messages=ASK, tools=TOOLS)["choices"][0]
    assert choice["message"]["reasoning"] == text
    assert (choice["message"]["content"], calls_of(choice)) == ("4", [])
