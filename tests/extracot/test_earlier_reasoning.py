"""Reasoning of earlier turns: the template decides which it keeps, and it stays a client's text."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import Control, Message, PromptError, PromptRenderer, ToolCall
from tests.extracot import zoo
from tests.extracot.prompts import CONTROLS
from tests.extracot.real_templates import TEMPLATES

CALL = ToolCall("get_weather", {"city": "Bern"}, "call00001")
ASKED, AGAIN = Message("user", "Bern?"), Message("user", "And Rome?")
RESULT = Message("tool", "12", tool_call_id="call00001")
REASONED = Message("assistant", "It is 12.", reasoning="because")
CALLED = Message("assistant", "", (CALL,), reasoning="because")


def shown(name: str, messages: list[Message], **switches: Any) -> str:
    template = TEMPLATES[name]
    ids = template.renderer.render(messages, Control.native(), switches=switches).token_ids
    return str(template.tokenizer.decode(list(ids)))


@pytest.mark.parametrize(
    ("name", "later", "chained"),
    [
        ("qwen3", None, "<think>\nbecause\n</think>\n\n<tool_call>"),
        ("qwen3_5_think", None, "<think>\nbecause\n</think>\n\n<tool_call>"),
        (
            "qwen3_8",
            "<think>\nbecause\n</think>\n\nIt is 12.",
            "<think>\nbecause\n</think>\n\n<tool_call>",
        ),
        ("gptoss", None, "<|channel|>analysis<|message|>because<|end|>"),
        ("glm4moe", None, "<think>because</think>"),
        ("gemma4", None, "<|channel>thought\nbecause\n<channel|><|tool_call>"),
        ("ByteDance-Seed-OSS", "<seed:think>because</seed:think>", "<seed:think>because</seed:"),
        ("mistralai-Ministral-3-14B-Reasoning-2512", "[THINK]because[/THINK]", "[THINK]because[/"),
        ("qwen2_5", None, None),
    ],
)
def test_the_template_decides(name: str, later: str | None, chained: str | None) -> None:
    for messages, expected in (
        ([ASKED, REASONED, AGAIN], later),
        ([ASKED, CALLED, RESULT], chained),
    ):
        text = shown(name, messages)
        assert ("because" in text) is (expected is not None)
        assert expected is None or expected in text


def test_a_chain_before_the_users_last_message_loses_it() -> None:
    answered = [ASKED, CALLED, RESULT, REASONED, AGAIN]
    assert "because" not in shown("qwen3", answered)
    assert shown("gemma4_v5", answered).count("because") == 0
    assert shown("gemma4_v5", answered, preserve_thinking=True).count("because") == 1


@pytest.mark.parametrize("name", ["qwen3_8", "gptoss", "qwen2_5"])
def test_reasoning_at_the_beginning_of_the_content_is_the_same(name: str) -> None:
    tags = TEMPLATES[name].tags
    told = Message("assistant", f"{tags.start}\nbecause\n{tags.end}\n\nIt is 12.")
    assert shown(name, [ASKED, told, AGAIN]) == shown(name, [ASKED, REASONED, AGAIN])


@pytest.mark.parametrize("reasoning", [None, "", " \n"])
def test_none_given_is_none(reasoning: str | None) -> None:
    told = Message("assistant", "It is 12.", reasoning=reasoning)
    plain = Message("assistant", "It is 12.")
    assert shown("qwen3_8", [ASKED, told, AGAIN]) == shown("qwen3_8", [ASKED, plain, AGAIN])


def test_what_is_given_comes_before_what_is_in_the_content() -> None:
    told = Message("assistant", "<think>\nelse\n</think>\n\nIt is 12.", reasoning="because")
    assert shown("qwen3_8", [ASKED, told, AGAIN]) == shown("qwen3_8", [ASKED, REASONED, AGAIN])


def test_a_text_and_reasoning_where_the_template_takes_one_of_them() -> None:
    """gpt-oss's: the text stays, since a client has seen it."""
    text = shown("gptoss", [ASKED, Message("assistant", "I look.", (CALL,), reasoning="r"), RESULT])
    assert "<|channel|>analysis<|message|>I look.<|end|>" in text


@pytest.mark.parametrize(
    "habit",
    [
        "{{ raise_exception('no reasoning here') if m.reasoning_content }}",
        "{{ (m.reasoning_content or '') | upper }}",
        "{{ (m.reasoning_content or '')[:10] }}",
    ],
)
def test_a_template_that_fails_at_reasoning_gets_none(habit: str) -> None:
    tokenizer: Any = copy.deepcopy(zoo.tokenizer("bytes", "chatml"))
    tokenizer.chat_template = zoo.CHATML.replace("<|im_end|>", habit + "<|im_end|>")
    plain = Message("assistant", REASONED.content)
    render = PromptRenderer(tokenizer)
    ours, without = (
        render.render([ASKED, message, AGAIN], Control.native()) for message in (REASONED, plain)
    )
    assert ours == without


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_only_an_assistant_reasons(role: str) -> None:
    said = Message(role, "12", tool_call_id="call00001", reasoning="because")
    with pytest.raises(PromptError, match="goes with an assistant's message") as caught:
        shown("qwen3", [ASKED, Message("assistant", "", (CALL,)), said, AGAIN])
    assert caught.value.field == "messages[2].reasoning"


def test_a_reasoning_that_is_no_text_is_named() -> None:
    with pytest.raises(PromptError, match="surrogate") as caught:
        shown("qwen3", [ASKED, Message("assistant", "a", reasoning="\ud800"), AGAIN])
    assert caught.value.field == "messages[1].reasoning"


SPOOFS = ["</think>", "<|im_end|>", "<|im_start|>system\n", "<tool_call>", "<|end|>", "<channel|>"]


@pytest.mark.parametrize("name", ["qwen3", "qwen3_8", "gptoss", "gemma4_v5", "ByteDance-Seed-OSS"])
@given(
    reasoning=st.lists(st.sampled_from(SPOOFS) | st.text(max_size=6), min_size=1).map("".join),
    control=st.sampled_from([c for c in CONTROLS if c.token is None]),
)
def test_reasoning_is_never_more_than_text(name: str, reasoning: str, control: Control) -> None:
    render = TEMPLATES[name].renderer
    protected = render.protected_ids

    def found(text: str) -> list[int]:
        messages = [
            *(ASKED, Message("assistant", "It is 12.", reasoning=text), AGAIN),
            *(Message("assistant", "", (CALL,), reasoning=text), RESULT),
        ]
        return [id_ for id_ in render.render(messages, control).token_ids if id_ in protected]

    try:
        reasoning.encode()
    except UnicodeEncodeError:
        return
    if reasoning.strip():
        assert found(reasoning) == found("because")
