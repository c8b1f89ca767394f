"""From ids to text without loss: stop strings, detokenising and attribution, for any chunking."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot.reasoning import Part, ReasoningSplitter, ThinkTags, split_reasoning
from extracot_server.engine.base import TokenLogprob
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from extracot_server.generation.attribution import Attributor, Fragment
from extracot_server.generation.detokenize import detokenizer_factory
from extracot_server.generation.stop_strings import AnswerText
from tests.extracot import zoo

TOKENIZER = ScriptedTokenizer()
SMALL = st.text("abc", max_size=30)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=4)
MARKED = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<", "</", "think>", " ", "\n", "\n\n", "a", " so", "≈"]
    )
    | st.text(max_size=3),
    max_size=14,
).map("".join)


def chunks_of(text: str, cuts: Sequence[int]) -> list[str]:
    """The text cut at these places."""
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop string begins that is complete first; the longest of several."""
    ends = [(at + len(s), at) for s in stops if (at := text.find(s)) >= 0]
    return min(ends)[1] if ends else None


@given(SMALL, STOPS, st.lists(st.integers(0, 99), max_size=8))
def test_an_answer_stops_where_a_whole_text_search_does(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    answer: AnswerText[None] = AnswerText(stops)
    shown = ""
    for chunk in chunks_of(text, cuts):
        shown += answer.feed(chunk, ())[0]
        if answer.stopped:
            break
    else:
        shown += answer.finish()[0]
    at = first_stop(text, stops)
    assert answer.stopped is (at is not None)
    assert shown == text[:at]


@given(SMALL, STOPS)
def test_nothing_is_held_back_that_cannot_become_a_stop(text: str, stops: list[str]) -> None:
    answer: AnswerText[None] = AnswerText(stops)
    shown, _ = answer.feed(text, ())
    if not answer.stopped:
        held = text[len(shown) :]
        assert not held or any(s.startswith(held) and s != held for s in stops)


@given(SMALL, STOPS, st.integers(1, 4))
def test_logprobs_are_those_of_the_shown_tokens(text: str, stops: list[str], size: int) -> None:
    tokens = [text[at : at + size] for at in range(0, len(text), size)]
    answer = AnswerText(stops)
    shown, listed = "", []
    for index, token in enumerate(tokens):
        more, logprobs = answer.feed(token, [TokenLogprob(index, -1.0)])
        shown, listed = shown + more, listed + logprobs
        if answer.stopped:
            break
    else:
        more, logprobs = answer.finish()
        shown, listed = shown + more, listed + logprobs
    # Every token that begins in what is shown, and no other.
    expected = -(-len(shown) // size)
    assert [item.token_id for item in listed] == list(range(expected))


@given(st.text(), st.integers(0, 5))
def test_scripted_detokenising_is_lossless(text: str, context: int) -> None:
    ids = TOKENIZER.encode(text)
    step = detokenizer_factory(TOKENIZER)(ids[:context])
    shown = "".join(step(id_) for id_ in ids)
    whole = TOKENIZER.decode(ids)
    assert whole == shown


@pytest.fixture(scope="module")
def smollm2() -> Any:
    """A real, byte-level tokenizer."""
    return zoo.smollm2()


@given(text=st.text())
def test_a_real_tokenizer_step_by_step_is_the_whole_text(smollm2: Any, text: str) -> None:
    ids = smollm2.encode(text, add_special_tokens=False)
    step = detokenizer_factory(smollm2)(smollm2.encode("Hello", add_special_tokens=False))
    shown = "".join(step(id_) for id_ in ids)
    whole = smollm2.decode(ids, skip_special_tokens=True)
    assert whole.startswith(shown)
    assert shown == whole or whole[len(shown) :].strip("\ufffd") == ""


@given(text=st.text())
def test_without_a_stream_decoder_a_window_does(smollm2: Any, text: str) -> None:
    class Plain:
        """A tokenizer that only decodes."""

        def decode(self, ids: list[int], **options: Any) -> str:
            """Text of ids."""
            return str(smollm2.decode(ids, **options))

    ids = smollm2.encode(text, add_special_tokens=False)
    context = smollm2.encode("Hello", add_special_tokens=False)
    step = detokenizer_factory(Plain())(context)  # type: ignore[arg-type]
    whole = smollm2.decode(ids, skip_special_tokens=True)
    assert "".join(step(id_) for id_ in ids) in (whole, whole.rstrip("\ufffd"))


def attribute(ids: list[int], *, in_reasoning: bool) -> tuple[list[Fragment], ReasoningSplitter]:
    """Everything an attributor makes of ids."""
    splitter = ReasoningSplitter(ThinkTags(), in_reasoning=in_reasoning)
    attributor = Attributor(splitter)
    step = detokenizer_factory(TOKENIZER)([])
    fragments = []
    for id_ in ids:
        fragments += attributor.feed(id_, step(id_), None)
    return fragments + attributor.finish(), splitter


@given(MARKED, st.booleans(), st.booleans())
def test_attribution_loses_no_id_and_no_character(
    text: str, in_reasoning: bool, bytewise: bool
) -> None:
    # Bytewise, as a tokenizer without any word would: tags and characters in pieces.
    ids = list(text.encode(errors="replace")) if bytewise else TOKENIZER.encode(text)
    fragments, _ = attribute(ids, in_reasoning=in_reasoning)
    attributed = [token.token_id for fragment in fragments for token in fragment.tokens]
    assert attributed == ids
    whole = TOKENIZER.decode(ids)
    assert "".join(fragment.text for fragment in fragments) == whole
    expected = split_reasoning(whole, in_reasoning=in_reasoning)
    for part, text_of_part in (
        (Part.REASONING, expected.reasoning),
        (Part.ANSWER, expected.answer),
    ):
        assert "".join(f.text for f in fragments if f.part is part) == text_of_part


@given(st.lists(st.integers(0, 255), max_size=30), st.booleans())
def test_ids_that_are_no_characters_are_attributed_too(ids: list[int], in_reasoning: bool) -> None:
    fragments, _ = attribute(ids, in_reasoning=in_reasoning)
    assert [t.token_id for fragment in fragments for t in fragment.tokens] == ids


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nFirst second\n</think>\n\nThe answer", 2, 2),
        ("<think> First second</think> The answer", 2, 2),  # " First" begins in markup
        ("<think>\n\n</think>\n\nThe answer", 0, 2),
        (" The answer", 0, 2),
    ],
)
def test_a_token_counts_where_its_words_are(text: str, reasoning: int, answer: int) -> None:
    fragments, _ = attribute(TOKENIZER.encode(text), in_reasoning=False)
    counts = {part: sum(len(f.tokens) for f in fragments if f.part is part) for part in Part}
    assert (counts[Part.REASONING], counts[Part.ANSWER]) == (reasoning, answer)
