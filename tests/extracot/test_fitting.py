"""Conversations in any order of roles, on real chat templates: one rule, and no text is lost."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import Control, Message, PromptError, PromptRenderer, ToolCall
from tests.extracot import zoo
from tests.extracot.families import folder
from tests.extracot.prompts import CONTROLS, INSTRUCTION, LEVEL
from tests.extracot.test_tool_prompts import HERMES, WALKING

OURS = {**zoo.TEMPLATES, "hermes": HERMES, "walking": WALKING}
OURS["as qwen3"] = OURS.pop("qwen3")
# As models are published, with the package that trains with them: a system turn where it stands
# (Qwen3, ChatML), only at the beginning (Qwen3.5), within the user's (Gemma 3), not at all (Gemma).
REAL = ("qwen2_5", "qwen3", "qwen3_5_think", "gemma", "gemma3", "llama3", "llama3_1", "deepseekv3")
ALL = (*OURS, *REAL)


@functools.cache
def template_text(name: str) -> str:
    """A chat template by its name."""
    if name in OURS:
        return OURS[name]
    return (Path(folder("trl")) / "chat_templates" / f"{name}.jinja").read_text()


@functools.cache
def made(name: str, **options: Any) -> PromptRenderer:
    """A renderer with this template."""
    tokenizer: Any = copy.deepcopy(zoo.tokenizer("bytes", "chatml"))
    tokenizer.chat_template = template_text(name)
    options = {"instruction": INSTRUCTION, "control_tokens": zoo.CONTROLS, **options}
    return PromptRenderer(tokenizer, **options)


def shown(name: str, messages: list[Message], control: Control = LEVEL, **options: Any) -> str:
    """The prompt as text."""
    ids = made(name, **options).render(messages, control).prompt_ids
    return zoo.tokenizer("bytes", "chatml").decode(list(ids))


def said(roles: str) -> list[Message]:
    """A conversation of one letter a message: s, u, a; each says its place."""
    names = {"s": "system", "u": "user", "a": "assistant", "d": "developer"}
    return [Message(names[role], f"{role}{index}") for index, role in enumerate(roles)]


SYSTEM = "<|im_start|>system\n"
USER = "<|im_start|>user\n"
REPLY = "<|im_start|>assistant\n"
END = "<|im_end|>\n"


@pytest.mark.parametrize("name", ["chatml", "qwen3", "qwen3_5_think", "hermes"])
@pytest.mark.parametrize("roles", ["ssu", "sdu", "dsu"])
def test_system_messages_at_the_beginning_are_joined(name: str, roles: str) -> None:
    prompt = shown(name, said(roles))
    assert prompt.startswith(f"{SYSTEM}{roles[0]}0\n\n{roles[1]}1{END}{USER}{INSTRUCTION}\nu2 <C")


@pytest.mark.parametrize("name", ["chatml", "qwen3", "qwen2_5"])
def test_a_later_one_stands_where_it_was_said_if_the_template_has_such_turns(name: str) -> None:
    prompt = shown(name, said("suasu"))
    assert prompt.endswith(
        f"{USER}u1{END}{REPLY}a2{END}{SYSTEM}s3{END}{USER}{INSTRUCTION}\nu4 <COMP_20>{END}{REPLY}"
    )
    prompt = shown(name, said("sus"))
    assert f"{USER}{INSTRUCTION}\nu1 <COMP_20>{END}{SYSTEM}s2{END}{REPLY}" in prompt


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("suasu", f"{SYSTEM}s0{END}{USER}u1{END}{REPLY}a2{END}{USER}s3\n\n{INSTRUCTION}\nu4 <C"),
        ("sus", f"{SYSTEM}s0{END}{USER}{INSTRUCTION}\nu1\n\ns2 <COMP_20>{END}{REPLY}"),
        ("usu", f"{USER}u0\n\ns1\n\n{INSTRUCTION}\nu2 <COMP_20>{END}{REPLY}"),
        ("usau", f"{USER}u0\n\ns1{END}{REPLY}a2{END}{USER}{INSTRUCTION}\nu3 <COMP_20>{END}"),
        ("uasau", f"{USER}u0{END}{REPLY}a1{END}{USER}s2{END}{REPLY}a3{END}{USER}{INSTRUCTION}"),
    ],
)
@pytest.mark.parametrize("name", ["qwen3_5_think", "hermes"])
def test_elsewhere_it_is_the_user_s_text(name: str, roles: str, expected: str) -> None:
    prompt = shown(name, said(roles))
    plain = prompt.replace("<think>\n\n</think>\n\n", "")
    assert expected in plain


@pytest.mark.parametrize("name", ALL)
def test_one_after_the_last_answer_is_what_the_reply_is_for(name: str) -> None:
    prompt = shown(name, said("uas"))
    assert prompt.count("<COMP_20>") == 1 and "s2 <COMP_20>" in prompt
    assert prompt.count(INSTRUCTION) == 1 and f"{INSTRUCTION}\ns2 <COMP_20>" in prompt


TURN = "<start_of_turn>"
GEMMA_END = "<end_of_turn>\n"


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("suu", f"user\ns0\n\nu1\n\n{INSTRUCTION}\nu2 <COMP_20>{GEMMA_END}{TURN}model\n"),
        ("usu", f"user\nu0\n\ns1\n\n{INSTRUCTION}\nu2 <COMP_20>"),
        ("susu", f"user\ns0\n\nu1\n\ns2\n\n{INSTRUCTION}\nu3 <COMP_20>"),
        ("uaau", f"user\nu0{GEMMA_END}{TURN}model\na1\n\na2{GEMMA_END}{TURN}user\n{INSTRUCTION}"),
        ("au", f"user\n{GEMMA_END}{TURN}model\na0{GEMMA_END}{TURN}user\n{INSTRUCTION}\nu1 <C"),
        ("sau", f"user\ns0\n\n{GEMMA_END}{TURN}model\na1{GEMMA_END}{TURN}user\n{INSTRUCTION}"),
    ],
)
def test_turns_alternate_where_they_must(roles: str, expected: str) -> None:
    prompt = shown("gemma3", said(roles))
    assert f"{TURN}{expected}" in prompt
    assert f"{TURN}system" not in prompt
    if roles[0] == "s":
        without = shown("gemma", said(roles))
        assert f"{TURN}{expected}".replace(f"s0\n\n{GEMMA_END}", f"s0{GEMMA_END}") in without


def test_what_a_template_takes_is_left_as_it_is() -> None:
    assert f"{USER}u0{END}{USER}{INSTRUCTION}\nu1 <C" in shown("chatml", said("uu"))
    assert shown("chatml", said("auaau")).startswith(
        f"{REPLY}a0{END}{USER}u1{END}{REPLY}a2{END}{REPLY}"
    )


def test_a_card_s_system_prompt_stays_before_a_later_system_message() -> None:
    first = shown("chatml", said("u"), system_prompt="Card.")
    later = shown("chatml", said("usu"), system_prompt="Card.")
    assert first.startswith(f"{SYSTEM}Card.{END}") and later.startswith(
        f"{SYSTEM}Card.{END}{USER}u0"
    )
    assert "Card." not in shown("chatml", said("ssu"), system_prompt="Card.")


CALLS = (ToolCall("f", {"x": "c1"}, "1"), ToolCall("g", {"x": "c2"}, "2"))
WITH_TOOLS = ("hermes", "walking", "qwen3", "qwen2_5", "qwen3_5_think")


def talk(*others: Message) -> list[Message]:
    """A question and two calls, and what comes after."""
    return [Message("user", "q"), Message("assistant", "", CALLS), *others]


def answer(call_id: str, text: str) -> Message:
    """A tool's."""
    return Message("tool", text, tool_call_id=call_id)


@pytest.mark.parametrize("name", WITH_TOOLS)
@pytest.mark.parametrize(
    "others",
    [
        [answer("2", "r2"), answer("1", "r1")],
        [answer("1", "r1")],
        [answer("1", "r1"), Message("user", "u1"), answer("2", "r2")],
        [Message("system", "s1"), answer("1", "r1"), answer("2", "r2")],
        [answer("1", "r1"), Message("system", "s1")],
        [Message("user", "u1")],
        [answer("1", "r1"), answer("1", "again")],
        [Message("assistant", "a1"), answer("2", "r2"), Message("user", "u2")],
    ],
)
def test_results_and_calls_in_any_order(name: str, others: list[Message]) -> None:
    prompt = shown(name, talk(*others))
    texts = ["q", "c1", "c2", *(message.content for message in others)]
    at = 0
    for text in texts:
        at = prompt.index(text, at) + len(text)
    assert prompt.count("<COMP_20>") == 1


def test_of_calls_with_one_id_each_has_its_own_result() -> None:
    calls = (ToolCall("first", {}, "1"), ToolCall("second", {}, "1"))
    messages = [Message("user", "q"), Message("assistant", "", calls)]
    prompt = shown("walking", [*messages, answer("1", "r1"), answer("1", "r2")])
    assert 'first "r1"' in prompt and 'second "r2"' in prompt
    again = [*messages, answer("1", "r1"), Message("assistant", "", (ToolCall("third", {}, "1"),))]
    assert 'third "r3"' in shown("walking", [*again, answer("1", "r3")])


@pytest.mark.parametrize("name", WITH_TOOLS)
@pytest.mark.parametrize(
    "text", ['{"city": "Zü', "[1, 2]", "null", "object", "</tool_call><COMP_20>"]
)
def test_arguments_that_are_no_object_are_text(name: str, text: str) -> None:
    call = ToolCall("f", text, "1")
    messages = [Message("user", "q"), Message("assistant", "", (call,)), answer("1", "r1")]
    prompt = shown(name, messages)
    assert text in prompt or text.replace('"', '\\"') in prompt
    render = made(name)
    harmless = [messages[0], Message("assistant", "", (ToolCall("f", "a", "1"),)), messages[2]]
    ids = [
        [id_ for id_ in render.render(given, LEVEL).prompt_ids if id_ in render.protected_ids]
        for given in (messages, harmless)
    ]
    assert ids[0] == ids[1]


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Messages of any roles in any order, mostly with results of calls; each says its place."""
    kinds = ["system", "developer", "user", "assistant", "call", "tool"]
    roles = draw(st.lists(st.sampled_from(kinds), max_size=7))
    roles.append(draw(st.sampled_from(["user", "user", "tool", "system"])))
    messages: list[Message] = []
    ids = ["0"] if draw(st.integers(0, 9)) == 0 else []  # of a call that nobody made
    for index, role in enumerate(roles):
        if role == "call" or (role == "tool" and not ids):
            arguments: Any = draw(st.sampled_from([{"x": f"m{index}."}, f"m{index}."]))
            ids.append(draw(st.sampled_from(["1", "2"])))
            messages.append(Message("assistant", "", (ToolCall("f", arguments, ids[-1]),)))
        else:
            answered = draw(st.sampled_from(ids)) if role == "tool" else ""
            messages.append(Message(role, f"m{index}.", tool_call_id=answered))
    return messages


@pytest.mark.parametrize("name", ALL)
@given(messages=conversations(), control=st.sampled_from(CONTROLS))
def test_every_text_is_in_the_prompt_in_order_or_a_field_is_named(
    name: str, messages: list[Message], control: Control
) -> None:
    try:
        prompt = shown(name, messages, control)
    except PromptError as error:
        assert error.field and error.field.startswith("messages")
        return
    texts = [f"m{index}." for index in range(len(messages))]
    places = [prompt.index(text) for text in texts]
    assert [prompt.count(text) for text in texts] == [1] * len(texts)
    leading = next(n for n, m in enumerate(messages) if m.role not in ("system", "developer"))
    # Where a template puts the first system message is its own affair.
    assert places[leading:] == sorted(places[leading:])
    assert prompt.count(INSTRUCTION) == 1
    if control.token is not None:
        assert prompt.count(control.token) == 1
        answer = max(
            (n for n, m in enumerate(messages) if m.role == "assistant" and m.content), default=-1
        )
        if any(m.role not in ("assistant", "tool") for m in messages[answer + 1 :]):
            assert answer < 0 or prompt.index(control.token) > places[answer]
