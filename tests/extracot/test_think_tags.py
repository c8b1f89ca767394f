"""How think tags are written, and what begins an answer in the place of a block."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import (
    Control,
    ControlTokenError,
    Message,
    Part,
    PromptRenderer,
    ReasoningSplitter,
    ThinkTags,
)
from tests.extracot import zoo
from tests.extracot.test_reasoning import fed, merged

START, END = (
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
)
FINAL = "<|channel|>final<|message|>"
CHANNELS = ThinkTags(START, END, opens=START, closes=END, skips=FINAL)


def test_by_default_tags_stand_on_lines_of_their_own() -> None:
    tags = ThinkTags()
    assert (tags.opens, tags.closes, tags.skips) == (
        "<think>\n",
        "\n</think>\n\n",
        "<think>\n\n</think>\n\n",
    )
    assert tags == ThinkTags("<think>", "</think>", opens="<think>\n")
    assert (tags.begins_answer, CHANNELS.begins_answer) == (None, FINAL)


@pytest.mark.parametrize(
    "form",
    [
        {"opens": "so"},
        {"opens": "<think></think>"},
        {"closes": "so"},
        {"closes": "<think></think>"},
        {"skips": " \n"},
    ],
)
def test_forms_that_do_not_open_or_close(form: dict[str, str]) -> None:
    with pytest.raises(ControlTokenError):
        ThinkTags(**form)


def test_a_prompt_is_written_in_the_forms() -> None:
    tags = ThinkTags(opens="<think>", closes="</think>", skips="<think></think>\n")
    tokenizer = zoo.tokenizer()
    renderer = PromptRenderer(tokenizer, tags=tags)

    def prefill(control: Control) -> str:
        rendered = renderer.render([Message("user", "Hi")], control)
        return tokenizer.decode(list(rendered.prefill_ids))

    assert prefill(Control.open()) == "<think>"
    assert prefill(Control.none()) == "<think></think>\n"
    assert tokenizer.decode(list(renderer.close_ids)) == "</think>"


TEXTS = st.lists(
    st.sampled_from([START, END, FINAL, FINAL[:9], FINAL[9:], END[:12], " ", "\n", "a", "<|"]),
    max_size=6,
).map("".join)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 99), max_size=8), expects=st.booleans())
def test_any_chunking_gives_the_same(text: str, cuts: list[int], expects: bool) -> None:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in pairwise(bounds)]

    def splitter() -> ReasoningSplitter:
        return ReasoningSplitter(CHANNELS, in_reasoning=False, expect_reasoning=expects)

    found = fed(splitter(), chunks)
    assert found == fed(splitter(), [text])
    assert "".join(part for _, part in found) == text
    if text.lstrip().startswith(FINAL):
        assert found[0][0] is Part.MARKUP
        assert all(part is not Part.REASONING for part, _ in found)


def test_an_answer_may_begin_at_once() -> None:
    splitter = ReasoningSplitter(CHANNELS, in_reasoning=False)
    assert fed(splitter, [f" {FINAL}\nIt is ", FINAL]) == [
        (Part.MARKUP, f" {FINAL}\n"),
        (Part.ANSWER, f"It is {FINAL}"),
    ]
    assert not splitter.opened


@pytest.mark.parametrize("marked", [False, True])
def test_a_block_can_be_left_without_a_tag(marked: bool) -> None:
    tags = ThinkTags()
    splitter = ReasoningSplitter(
        tags, in_reasoning=True, marked=(tags.start, tags.end) if marked else ()
    )
    pieces = splitter.feed("a </thi \n") + splitter.leave()
    assert (splitter.state, splitter.closed) == ("answer", True)
    pieces += splitter.feed(" <call>") + splitter.finish()
    assert merged(pieces) == [
        (Part.REASONING, "a </thi"),
        (Part.MARKUP, " \n"),
        (Part.ANSWER, " <call>"),
    ]
    splitter = ReasoningSplitter(tags, in_reasoning=True)
    held = splitter.feed("a </think") + splitter.leave() + splitter.finish()
    assert merged(held) == [(Part.REASONING, "a </think")]
