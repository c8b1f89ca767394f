"""What is found out of a template by rendering it: on, off, efforts, and what it keeps."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from extracot.template import ChatTemplate
from extracot.template_traits import TemplateTraits, find_traits
from tests.extracot import zoo
from tests.extracot.real_templates import TEMPLATES

OFF = {"enable_thinking": False}
ON = {"enable_thinking": True}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen2_5", TemplateTraits()),
        ("deepseek_r1_distill", TemplateTraits()),
        (
            "qwen3",
            TemplateTraits(off=OFF, on_off=("enable_thinking",), keeps_reasoning="tool_chain"),
        ),
        (
            "qwen3_8",
            TemplateTraits(
                off=OFF,
                on_off=("enable_thinking",),
                effort="reasoning_effort",
                efforts=("low", "medium", "xhigh"),
                keep=("preserve_thinking",),
                keeps_reasoning="always",
            ),
        ),
        (
            "gemma4_v5",
            TemplateTraits(
                on=ON,
                off=OFF,
                on_off=("enable_thinking",),
                keep=("preserve_thinking",),
                keeps_reasoning="tool_chain",
            ),
        ),
        (
            "gptoss",
            TemplateTraits(
                effort="reasoning_effort",
                efforts=("low", "medium", "high"),
                keeps_reasoning="tool_chain",
            ),
        ),
        (
            "nemotron_3_nano",
            TemplateTraits(
                off=OFF,
                on_off=("enable_thinking",),
                keep=("truncate_history_thinking",),
                keeps_reasoning="tool_chain",
            ),
        ),
        (
            "ByteDance-Seed-OSS",
            TemplateTraits(
                off={"thinking_budget": 0},
                on_off=("thinking_budget",),
                budget="thinking_budget",
                keeps_reasoning="always",
            ),
        ),
        (
            "ibm-granite-granite-3.3-2B-Instruct",
            TemplateTraits(on={"thinking": True}, off={"thinking": False}, on_off=("thinking",)),
        ),
        (
            "deepseek-ai-DeepSeek-V3.1",
            TemplateTraits(on=ON, off=OFF, on_off=("enable_thinking", "thinking")),
        ),
        ("mistralai-Ministral-3-14B-Reasoning-2512", TemplateTraits(keeps_reasoning="always")),
    ],
)
def test_traits_of_real_templates(name: str, expected: TemplateTraits) -> None:
    assert TEMPLATES[name].renderer.traits == expected


def traits(template: str) -> TemplateTraits:
    tokenizer: Any = copy.deepcopy(zoo.tokenizer("bytes", "chatml"))
    tokenizer.chat_template = template
    return find_traits(ChatTemplate(tokenizer))


TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def test_a_variable_that_is_only_named_is_no_switch() -> None:
    assert traits(TURNS + "{# enable_thinking, reasoning_effort #}") == TemplateTraits()


def test_an_effort_that_is_written_whatever_it_is_turns_nothing_off() -> None:
    found = traits(TURNS + "{{ reasoning_effort or 'medium' }}")
    assert found == TemplateTraits(effort="reasoning_effort", efforts=("low", "medium", "high"))


def test_efforts_are_those_that_change_the_prompt_or_are_not_refused() -> None:
    some = "{% if reasoning_effort in ['low', 'max'] %}({{ reasoning_effort }}){% endif %}"
    assert traits(TURNS + some).efforts == ("low", "max")
    strict = "{% if reasoning_effort not in [undefined, 'low', 'high'] %}{{ 1 / 0 }}{% endif %}"
    assert traits(TURNS + strict).efforts == ("low", "high")


def test_efforts_are_tried_with_reasoning_on() -> None:
    """Qwen3.8 and DeepSeek V4 look at them nowhere else."""
    found = traits(
        TURNS
        + "{% if thinking %}({{ 'much' if reasoning_effort == 'high' else 'some' }}){% endif %}"
    )
    assert found.on == {"thinking": True} and found.efforts == ("high",)


def test_words_for_on_and_off() -> None:
    found = traits(TURNS + "{% if thinking_mode == 'disabled' %}(no){% endif %}")
    assert found.off == {"thinking_mode": "disabled"} and found.on == {}


def test_a_template_that_takes_no_question_has_no_traits() -> None:
    assert traits("{{ raise_exception('no') }}{{ enable_thinking }}") == TemplateTraits()


def test_the_names_of_all_switches() -> None:
    assert TEMPLATES["qwen3_8"].renderer.traits.switches == (
        "enable_thinking",
        "preserve_thinking",
        "reasoning_effort",
    )
