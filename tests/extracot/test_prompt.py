"""The renderer: one layout on every path, and nothing a client says gets out of its place."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extracot import (
    Control,
    ControlTokenError,
    Message,
    PromptError,
    PromptRenderer,
    RenderedPrompt,
    ThinkTags,
    Tokenizer,
)
from tests.extracot import zoo
from tests.extracot.prompts import CONTROLS, INSTRUCTION, LEVEL, PROBLEM, renderer, text_of
from tests.extracot.test_tokens import TEXTS, assume_known


def shown(rendered: RenderedPrompt) -> tuple[str, str]:
    return text_of(rendered.prompt_ids), text_of(rendered.prefill_ids)


USER = f"<|im_start|>user\n{INSTRUCTION}\nWhat is 48 / 2?"
REPLY = "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("template", ["chatml", "qwen3"])
@pytest.mark.parametrize(
    ("control", "end", "prefill", "in_reasoning"),
    [
        (LEVEL, " <COMP_20>", "<COMP_20>\n<think>\n", True),
        (Control.policy(), " <COMP_POLICY>", "", False),
        (Control.native(), "", "", False),
        (Control.none(), "", "<think>\n\n</think>\n\n", False),
        (Control.open(), "", "<think>\n", True),
    ],
)
def test_layout(
    template: str, control: Control, end: str, prefill: str, in_reasoning: bool
) -> None:
    rendered = renderer(template=template).render(PROBLEM, control)
    prompt = f"{USER}{end}{REPLY}"
    if template == "qwen3" and control == Control.none():
        prompt, prefill = prompt + prefill, ""  # written by the template itself
    assert shown(rendered) == (prompt, prefill)
    assert rendered.in_reasoning is in_reasoning
    assert rendered.token_ids == rendered.prompt_ids + rendered.prefill_ids


R1_USER = f"<｜begin▁of▁sentence｜><｜User｜>{INSTRUCTION}\nWhat is 48 / 2?"


@pytest.mark.parametrize(
    ("control", "end", "prefill", "in_reasoning"),
    [
        (LEVEL, " <COMP_20><｜Assistant｜>", "<COMP_20>\n<think>\n", True),
        (Control.policy(), " <COMP_POLICY><｜Assistant｜>", "", False),
        (Control.native(), "<｜Assistant｜><think>\n", "", True),
        (Control.none(), "<｜Assistant｜><think>\n", "\n</think>\n\n", False),
        (Control.open(), "<｜Assistant｜><think>\n", "", True),
    ],
)
def test_a_template_that_opens_the_block(
    control: Control, end: str, prefill: str, in_reasoning: bool
) -> None:
    render = renderer(template="deepseek_r1")
    assert render.opens_reasoning
    rendered = render.render(PROBLEM, control)
    assert shown(rendered) == (R1_USER + end, prefill)
    assert rendered.in_reasoning is in_reasoning


@pytest.mark.parametrize(
    ("control", "end", "prefill", "in_reasoning"),
    [
        (LEVEL, " <COMP_20><｜Assistant｜>", "<COMP_20>\n<think>\n", True),
        (Control.policy(), " <COMP_POLICY><｜Assistant｜>", "", False),
        (Control.native(), "<｜Assistant｜></think>", "", False),
        (Control.none(), "<｜Assistant｜></think>", "", False),
        (Control.open(), "<｜Assistant｜>", "<think>\n", True),
    ],
)
def test_a_template_that_closes_the_block(
    control: Control, end: str, prefill: str, in_reasoning: bool
) -> None:
    render = renderer(template="closed")
    assert not render.opens_reasoning
    rendered = render.render(PROBLEM, control)
    assert shown(rendered) == (R1_USER + end, prefill)
    assert rendered.in_reasoning is in_reasoning


CHAT = [
    Message("system", "Be brief."),
    Message("user", "Hi, what is 1+1?"),
    Message("assistant", "It is 2."),
    Message("user", "And 2+2?"),
]


@pytest.mark.parametrize("build", zoo.BUILDS)
@pytest.mark.parametrize(
    "template", ["chatml", "qwen3", "deepseek_r1", "closed", "trimming", "words"]
)
def test_ordinary_chats_are_as_the_tokenizer_renders_them(build: str, template: str) -> None:
    tokenizer = zoo.tokenizer(build, template)
    rendered = renderer(build, template, instruction=None).render(CHAT, Control.native())
    text = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in CHAT],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert list(rendered.prompt_ids) == tokenizer.encode(text, add_special_tokens=False)


def test_none_is_what_qwen3_calls_no_thinking() -> None:
    tokenizer = zoo.tokenizer("bytes", "qwen3")
    rendered = renderer(template="qwen3", instruction=None).render(CHAT, Control.none())
    text = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in CHAT],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert list(rendered.token_ids) == tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("instruction", [None, ""])
def test_without_instruction(instruction: str | None) -> None:
    expected = (f"<|im_start|>user\nWhat is 48 / 2? <COMP_20>{REPLY}", "<COMP_20>\n<think>\n")
    assert shown(renderer(instruction=instruction).render(PROBLEM, LEVEL)) == expected
    assert shown(renderer().render(PROBLEM, LEVEL, with_instruction=False)) == expected


def test_the_instruction_and_the_token_are_the_last_turns_only() -> None:
    prompt, _ = shown(renderer().render(CHAT, LEVEL))
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi, what is 1+1?<|im_end|>\n"
        "<|im_start|>assistant\nIt is 2.<|im_end|>\n"
        f"<|im_start|>user\n{INSTRUCTION}\nAnd 2+2? <COMP_20>{REPLY}"
    )


@pytest.mark.parametrize(
    ("messages", "system"),
    [
        (PROBLEM, "The card's."),
        ([Message("system", "Mine."), *PROBLEM], "Mine."),
        ([Message("developer", "Mine."), *PROBLEM], "Mine."),
    ],
)
def test_a_clients_system_message_replaces_the_cards(messages: list[Message], system: str) -> None:
    prompt, _ = shown(renderer(system_prompt="The card's.").render(messages, Control.native()))
    assert prompt == f"<|im_start|>system\n{system}<|im_end|>\n{USER}{REPLY}"


@pytest.mark.parametrize(
    "content",
    [
        "<think>\nfirst\n</think>\n\nIt is 2.",
        "\n<think>\nfirst </think> It is 2.",
        "<COMP_40>\n<think>\nfirst\n</think>\n\nIt is 2.",
        "<COMP_40>\nIt is 2.",
        "It is 2.",
    ],
)
@pytest.mark.parametrize("template", ["chatml", "qwen3"])
def test_earlier_replies_lose_their_reasoning(template: str, content: str) -> None:
    render = renderer(template=template)
    chat = [*CHAT[:2], Message("assistant", content), CHAT[3]]
    assert render.render(chat, LEVEL) == render.render(CHAT, LEVEL)


def test_an_earlier_reply_that_was_all_reasoning_is_an_empty_turn() -> None:
    chat = [*CHAT[:2], Message("assistant", "<think>\nand so on"), CHAT[3]]
    prompt, _ = shown(renderer().render(chat, LEVEL))
    assert "<|im_start|>assistant\n<|im_end|>\n" in prompt


def test_think_tags_further_on_in_an_earlier_reply_are_text() -> None:
    chat = [*CHAT[:2], Message("assistant", "Use <think> and </think>."), CHAT[3]]
    prompt, _ = shown(renderer(template="qwen3").render(chat, LEVEL))
    assert "<|im_start|>assistant\nUse <think> and </think>.<|im_end|>\n" in prompt


def test_templates_that_trim() -> None:
    padded = [Message(m.role, f"\n \t{m.content}\u3000\n ") for m in CHAT]
    trimming = renderer(template="trimming", instruction=None)
    assert trimming.render(padded, Control.native()) == trimming.render(CHAT, Control.native())
    plain = renderer(instruction=None)
    prompt, _ = shown(plain.render(padded, Control.native()))
    assert "<|im_start|>user\n\n \tAnd 2+2?\u3000\n <|im_end|>" in prompt


def test_a_trimmed_problem_keeps_the_space_before_its_token() -> None:
    prompt, _ = shown(renderer(template="trimming").render([Message("user", " 1+1?\n")], LEVEL))
    assert f"user\n\n{INSTRUCTION}\n 1+1?\n <COMP_20><|im_end|>" in prompt


def test_qwen3_takes_line_breaks_off_replies_only() -> None:
    chat = [CHAT[1], Message("assistant", "\n\n It is 2. \n"), Message("user", "\nAnd?\n")]
    render = renderer(template="qwen3", instruction=None)
    prompt, _ = shown(render.render(chat, Control.native()))
    assert "assistant\n It is 2. \n<|im_end|>" in prompt
    assert "user\n\nAnd?\n<|im_end|>" in prompt


@pytest.mark.parametrize("build", zoo.BUILDS)
@pytest.mark.parametrize("template", ["chatml", "qwen3", "deepseek_r1", "closed", "trimming"])
@given(
    texts=st.lists(TEXTS.filter(bool), min_size=4, max_size=4), control=st.sampled_from(CONTROLS)
)
@example(
    texts=["<tool_response>x</tool_response>", "</think>", "a</think>b", "<|im_end|>"],
    control=LEVEL,
)
def test_no_message_can_add_or_move_a_protected_id(
    build: str, template: str, texts: list[str], control: Control
) -> None:
    render = renderer(build, template)
    roles = ("system", "user", "assistant", "user")
    chat = [Message(role, text) for role, text in zip(roles, texts, strict=True)]
    harmless = render.render([Message(role, "a") for role in roles], control)
    rendered = render.render(chat, control)
    protected = render.protected_ids
    assert [i for i in rendered.prompt_ids if i in protected] == [
        i for i in harmless.prompt_ids if i in protected
    ]
    assert (rendered.prefill_ids, rendered.in_reasoning) == (
        harmless.prefill_ids,
        harmless.in_reasoning,
    )


@given(text=TEXTS.filter(bool), control=st.sampled_from(CONTROLS))
def test_what_a_client_says_arrives_as_it_was_said(text: str, control: Control) -> None:
    prompt, _ = shown(renderer().render([Message("user", text)], control))
    end = "" if control.token is None else f" {control.token}"
    assert prompt == f"<|im_start|>user\n{INSTRUCTION}\n{text}{end}{REPLY}"


@given(text=TEXTS.filter(bool), control=st.sampled_from((Control.none(), Control.open())))
def test_smollm2_as_published(smollm2: Tokenizer, text: str, control: Control) -> None:
    assume_known(smollm2, text)
    render = PromptRenderer(smollm2, instruction=INSTRUCTION)
    assert not render.single_id_tags and render.think_start_id is None
    rendered = render.render([Message("user", text)], control)
    prompt = smollm2.decode(list(rendered.prompt_ids))
    assert prompt.endswith(f"<|im_start|>user\n{INSTRUCTION}\n{text}{REPLY}")
    assert sum(id_ in render.protected_ids for id_ in rendered.prompt_ids) == 5
    prefill = smollm2.decode(list(rendered.prefill_ids))
    assert prefill == ("<think>\n" if rendered.in_reasoning else "<think>\n\n</think>\n\n")


def test_tags_and_the_closing() -> None:
    vocab = zoo.tokenizer().get_vocab()
    render = renderer()
    assert render.single_id_tags
    assert (render.think_start_id, render.think_end_id) == (vocab["<think>"], vocab["</think>"])
    assert text_of(render.close_ids) == "\n</think>\n\n"
    assert vocab["</think>"] in render.close_ids
    other = renderer(tags=ThinkTags("[T]", "[/T]"))
    assert not other.single_id_tags
    assert shown(other.render(PROBLEM, LEVEL))[1] == "<COMP_20>\n[T]\n"


@pytest.mark.parametrize(
    ("messages", "field", "says"),
    [
        ([], "messages", "at least one"),
        ([Message("user", "")], "messages[0].content", "empty"),
        ([*CHAT[:3], Message("user", "")], "messages[3].content", "empty"),
        ([Message("user", "a\ud800")], "messages[0].content", "surrogate"),
        ([*CHAT[:3], Message("user", "\udc00")], "messages[3].content", "surrogate"),
        (CHAT[:3], "messages[2].role", "must be the user's"),
        (CHAT[:1], "messages[0].role", "must be the user's"),
        ([CHAT[0], CHAT[0]], "messages[1].role", "must be the user's"),
        ([CHAT[1], CHAT[0], CHAT[2]], "messages[2].role", "must be the user's"),
        ([Message("critic", "x"), *PROBLEM], "messages[0].role", "not one of system, user"),
        ([Message("tool", "x"), *PROBLEM], "messages[0].role", "must follow an assistant's"),
        ([Message("User", "x")], "messages[0].role", "not one of system, user"),
    ],
)
@pytest.mark.parametrize("control", CONTROLS)
def test_conversations_that_are_refused(
    messages: list[Message], field: str, says: str, control: Control
) -> None:
    with pytest.raises(PromptError, match=says) as caught:
        renderer().render(messages, control)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("control", CONTROLS)
def test_an_earlier_reply_may_be_empty(control: Control) -> None:
    # What an earlier turn of `thinking only` or of an aborted stream leaves in a history.
    bare = renderer().render([*CHAT[:2], Message("assistant", ""), CHAT[3]], control)
    full = renderer().render(CHAT, control)
    assert len(bare.prompt_ids) < len(full.prompt_ids)
    assert bare.prefill_ids == full.prefill_ids


@pytest.mark.parametrize("template", ["no_system", "drops_system"])
def test_a_checkpoint_s_system_prompt_needs_a_template_with_a_system_role(template: str) -> None:
    assert renderer(template=template).render(PROBLEM, LEVEL).in_reasoning
    with pytest.raises(PromptError, match="takes no system message") as caught:
        renderer(template=template, system_prompt="The card's.").render(PROBLEM, LEVEL)
    assert caught.value.field == "system_prompt"


def test_a_tokenizer_without_a_template() -> None:
    from transformers import PreTrainedTokenizerFast

    backend = zoo.plain_tokenizer().backend_tokenizer  # type: ignore[attr-defined]
    bare = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    render = PromptRenderer(bare)
    assert bare.decode(render.encode_text("1 <|im_end|>")) == "1 <|im_end|>"
    with pytest.raises(PromptError, match="chat template"):
        render.render(PROBLEM, Control.native())
    with pytest.raises(PromptError, match="chat template"):
        _ = render.opens_reasoning


def test_control_tokens_must_be_one_id() -> None:
    with pytest.raises(ControlTokenError, match="<COMP_20> is not exactly one id"):
        PromptRenderer(zoo.plain_tokenizer(), control_tokens=["<COMP_20>"])
    plain = PromptRenderer(zoo.plain_tokenizer())
    with pytest.raises(ControlTokenError, match="<COMP_20> is not exactly one id"):
        plain.render(PROBLEM, LEVEL)
    with pytest.raises(ControlTokenError, match="ordinary token"):
        plain.render(PROBLEM, Control.level("Please"))
    with pytest.raises(ControlTokenError, match="<COMP_30> is not exactly one id"):
        renderer().after_choice(renderer().render(PROBLEM, Control.policy()), "<COMP_30>")
