"""A template's own variables: what a request may set, and what our controls make of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from extracot import Control, Message, PromptError, PromptRenderer
from extracot.switches import check_switches
from tests.extracot import zoo
from tests.extracot.golden import TOOL
from tests.extracot.real_templates import TEMPLATES

ASKED = [Message("user", "1 + 1?")]


def shown(
    name: str, control: Control, switches: dict[str, Any] | None = None, **options: Any
) -> str:
    template = TEMPLATES[name]
    rendered = template.renderer.render(ASKED, control, switches=switches or {}, **options)
    return str(template.tokenizer.decode(list(rendered.token_ids)))


@pytest.mark.parametrize(
    "name",
    [
        *("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"),
        *("chat_template", "tokenize", "conversation", "return_dict", "tokenizer_kwargs"),
        *("bos_token", "eos_token", "raise_exception", "strftime_now", "self"),
        *("", "a b", "__class__x!", "x" * 65),
    ],
)
def test_what_a_request_may_not_set(name: str) -> None:
    with pytest.raises(PromptError, match="not a variable that a request may set") as caught:
        TEMPLATES["qwen3"].renderer.render(ASKED, Control.native(), switches={name: True})
    assert caught.value.field == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize("value", [True, False, None, 0, -1, 512, 0.5, "high", "no_think", ""])
def test_values_that_are_taken(value: object) -> None:
    check_switches({"reasoning_effort": value})


@pytest.mark.parametrize(
    "value", ["<|im_end|>", "a\nb", "x" * 65, "qXzMessage000000qXz", [1], {"a": 1}, b"a", "é"]
)
def test_values_that_are_refused(value: object) -> None:
    with pytest.raises(PromptError, match="must be") as caught:
        check_switches({"reasoning_effort": value})
    assert caught.value.field == "chat_template_kwargs.reasoning_effort"


def test_a_word_that_is_a_token_of_the_tokenizer_is_refused() -> None:
    tokenizer: Any = copy.deepcopy(zoo.tokenizer("bytes", "chatml"))
    tokenizer.add_tokens(["sesame"])
    tokenizer.chat_template += "{{ reasoning_effort }}"
    render = PromptRenderer(tokenizer)
    assert render.render(ASKED, Control.native(), switches={"reasoning_effort": "sesam"})
    with pytest.raises(PromptError, match="a token of the template") as caught:
        render.render(ASKED, Control.native(), switches={"reasoning_effort": "sesame"})
    assert caught.value.field == "chat_template_kwargs.reasoning_effort"


def test_capped_and_native_replies_have_what_turns_reasoning_on() -> None:
    for control in (Control.native(), Control.open()):
        assert "<|think|>" in shown("gemma4", control)
        assert shown("deepseek-ai-DeepSeek-V3.1", control).endswith("<think>")
        assert "Write your thoughts" in shown("ibm-granite-granite-3.3-2B-Instruct", control)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("qwen3", "assistant\n<think>\n\n</think>\n\n"),
        ("nemotron_3_nano", "assistant\n<think></think>"),
        ("GLM-4.6", "<|assistant|>\n<think></think>"),
        ("HuggingFaceTB-SmolLM3-3B", "assistant\n<think>\n\n</think>\n"),
        ("gemma4", "<turn|>\n<|turn>model\n"),
        ("ibm-granite-granite-3.3-2B-Instruct", "<|start_of_role|>assistant<|end_of_role|>"),
        ("deepseek-ai-DeepSeek-V3.1", "<think></think>"),
    ],
)
def test_without_reasoning_a_reply_begins_as_the_template_has_it(name: str, end: str) -> None:
    rendered = TEMPLATES[name].renderer.render(ASKED, Control.none())
    assert shown(name, Control.none()).endswith(end)
    assert rendered.prefill_ids == () and not rendered.in_reasoning
    # No other word for reasoning can undo it.
    contrary = {"enable_thinking": True, "thinking": True}
    assert shown(name, Control.none(), contrary) == shown(name, Control.none())


def test_a_template_without_an_off_form_has_its_block_closed() -> None:
    assert shown("deepseek_r1_distill", Control.none()).endswith("<think>\n\n</think>\n\n")
    assert shown("qwen2_5", Control.none()).endswith("assistant\n<think>\n\n</think>\n\n")


def test_what_a_request_sets_comes_before_what_we_would_set() -> None:
    assert "<|think|>" not in shown("gemma4", Control.native(), {"enable_thinking": False})
    assert "Reasoning: high" in shown("gptoss", Control.open(), {"reasoning_effort": "high"})
    assert "which is 512" in shown("ByteDance-Seed-OSS", Control.open(), {"thinking_budget": 512})


def test_a_level_is_rendered_without_switches_of_ours() -> None:
    render = PromptRenderer(
        TEMPLATES["gemma4"].tokenizer,
        tags=TEMPLATES["gemma4"].tags,
        control_tokens=["<|image|>"],
    )
    ids = render.render(ASKED, Control.level("<|image|>")).prompt_ids
    assert "<|think|>" not in TEMPLATES["gemma4"].tokenizer.decode(list(ids))


def test_an_effort_that_the_template_refuses_is_named() -> None:
    with pytest.raises(PromptError, match="Unexpected reasoning effort"):
        shown("qwen3_8", Control.native(), {"reasoning_effort": "minimal"})


def test_switches_go_with_tools() -> None:
    text = shown("qwen3", Control.none(), tools=[TOOL])
    assert "get_weather" in text and text.endswith("<think>\n\n</think>\n\n")
