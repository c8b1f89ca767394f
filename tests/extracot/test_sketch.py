"""The sketch of a card's problems: what it keeps of them, and which texts it takes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extracot.sketch import LEAST_PROBLEMS, MOST_WORDS, PromptSketch, words_of

TEXTS = st.lists(
    st.text(st.sampled_from("ab dé我ก 12.")),
    min_size=LEAST_PROBLEMS,
    max_size=80,
    unique_by=str.strip,
)


def test_words_are_letters_in_a_row_and_letters_of_scripts_without_spaces() -> None:
    assert words_of("Ben's 12 hens, überall!") == ["ben", "s", "hens", "überall"]
    assert words_of("一个篮子 and ไก่") == ["一", "个", "篮", "子", "and", *"ไก่"]
    assert words_of("12 * (3 + 4) = ?_") == []


@given(TEXTS)
def test_a_sketch_knows_the_words_of_several_problems(questions: list[str]) -> None:
    sketch = PromptSketch.of(questions)
    assert sketch is not None and sketch.n == len({question.strip() for question in questions})
    for word in sketch.words:
        assert sum(word in words_of(question) for question in questions) >= 2
    assert sum(map(sketch.covers, questions)) >= 0.97 * len(questions)
    assert sketch == PromptSketch.of(reversed(questions))
    assert sketch == PromptSketch.model_validate_json(sketch.model_dump_json())


def test_few_problems_make_no_sketch_and_doubles_count_once() -> None:
    assert PromptSketch.of(["one more"] * 100) is None
    assert PromptSketch.of(f"number {'x' * n}" for n in range(LEAST_PROBLEMS - 1)) is None


def test_a_prompt_may_have_a_few_new_words_and_no_more() -> None:
    base = (
        "we have so many good old words here that nobody needs any of the very new ones at all now"
    )
    sketch = PromptSketch.of(f"{base} {n}" for n in range(100, 200))
    assert sketch is not None and sketch.known_share == 0.95
    assert sketch.covers(base + " 555")
    assert sketch.covers(base.replace("nobody", "nobodo") + " 555")  # 1 of 20
    assert not sketch.covers(base.replace("nobody", "nobodo").replace("here", "hier") + " 555")
    assert not sketch.covers(base) and not sketch.covers(base + " 5555")


def test_a_wide_vocabulary_is_kept_to_its_most_common_words_and_asks_for_less() -> None:
    names = ["".join(chr(97 + (n // 26**k) % 26) for k in range(3)) for n in range(3000)]
    questions = [f"count {names[n % 3000]} {names[(7 * n + 1) % 3000]} please" for n in range(3000)]
    sketch = PromptSketch.of(questions)
    assert sketch is not None and len(sketch.words) == MOST_WORDS
    assert {"count", "please"} <= set(sketch.words) and sketch.known_share == 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_characters", 3), ("known_share", 1.5), ("words", [""]), ("min_characters", -1)],
)
def test_a_wrong_sketch_is_refused_by_field(field: str, value: object) -> None:
    good = {"n": 50, "min_characters": 5, "max_characters": 9, "known_share": 0.9, "words": ["a"]}
    with pytest.raises(ValidationError, match=field):
        PromptSketch.model_validate({**good, field: value})
