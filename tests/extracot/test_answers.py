"""Finding the last balanced box."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{42}", "42"),
        (r"first \boxed{1}, then \boxed{2}.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {x}", "x"),
        ("\\boxed\n{ x }", "x"),
        (r"$\boxed{\{1, 2\}}$", r"\{1, 2\}"),
        (r"\boxed{\{}", r"\{"),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"\\boxed{7}", "7"),
        (r"\boxed{3} and \boxed{4", "3"),
        (r"\boxed{3 and \boxed{4}", "4"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{a} } { \boxed{b}", "b"),
        (r"{ \boxed{a}", "a"),
        (r"\boxed{\text{the }x}", r"\text{the }x"),
        ("\\boxed{two\nlines}", "two\nlines"),
        (r"\boxed{9}, as in \boxed{}", "9"),
        (r"\boxed{9}, as in \boxed{ }", "9"),
        (r"\boxed{5\\}", "5\\\\"),
    ],
)
def test_found(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    ["", "42", r"\boxed", r"\boxed 5", r"\boxed{", r"\boxed{1", r"\boxed{}", r"\boxed{{1}",
     r"\boxedx{1}", r"boxed{1}", r"\fbox{1}", r"\boxed{1\}"],
)  # fmt: skip
def test_not_found(text: str) -> None:
    assert extract_answer(text) is None


BALANCED = st.recursive(
    st.text(st.characters(exclude_characters="\\{}", exclude_categories=["Cs"])),
    lambda inner: st.lists(
        inner | inner.map(lambda text: f"{{{text}}}") | st.sampled_from([r"\{", r"\}", r"\frac"]),
        max_size=4,
    ).map("".join),
    max_leaves=8,
).filter(lambda text: bool(text.strip()))


@given(st.text(), BALANCED, st.text(st.characters(exclude_characters="\\{}")))
def test_a_box_is_found_whatever_stands_around_it(before: str, inside: str, after: str) -> None:
    before = before.replace("\\", "")  # an odd number of backslashes would escape the box
    assert extract_answer(f"{before}\\boxed{{{inside}}}{after}") == inside.strip()


@given(st.lists(st.sampled_from(["\\boxed", "\\boxed{", "{", "}", "\\", "a", " ", "\\{"])))
def test_extraction_is_total_and_balanced(parts: list[str]) -> None:
    answer = extract_answer("".join(parts))
    assert answer is None or (answer.strip() == answer != "")


def test_a_long_unbalanced_text_is_no_trouble() -> None:
    assert extract_answer(r"\boxed{" * 200_000) is None
    assert extract_answer(r"\boxed{" * 200_000 + "1}") == "1"
