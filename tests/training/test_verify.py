"""Verification: what counts as equal, on any thread, and never an exception."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.math_text.verify import VerifyResult, equal, tidy, verify
from tests.examples import examples

SAME = [
    ("1/2", "\\frac{1}{2}"),
    ("0.5", "\\frac12"),
    ("\\dfrac{1}{2}", "\\frac{1}{2}"),
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    ("72.0", "72"),
    ("-0", "0"),
    ("$72", "72"),
    ("72\\text{ dollars}", "72"),
    ("\\text{Evelyn}", "Evelyn"),
    ("(3,\\frac{\\pi}{2})", "\\left( 3, \\frac{\\pi}{2} \\right)"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("2^{10}", "1024"),
    ("p - q", "p-q"),
    ("x^2+2x+1", "(x+1)^2"),
    ("123456789012345678901234567890", "123456789012345678901234567890.0"),
    ("2516_{\\text{eight}}", "2516_8"),
    ("2516", "2516_8"),
    ("101_2", "101"),
    ("2a_{16}", "2A_{\\text{sixteen}}"),
    ("N = 1,000_{(8)}", "1000_\\mathrm{eight}"),
    ("0.10_3", "0.1_{03}"),
]
DIFFERENT = [
    ("1/2", "1/3"),
    ("", "5"),
    ("5", ""),
    ("[0,1]", "(0,1)"),
    ("\\frac{1}{", "1"),
    ("12", "21"),
    ("123456789012345678901234567890", "123456789012345678901234567891"),
    ("no idea", "7"),
    ("2516_9", "2516_8"),
    ("2516_{\\text{nine}}", "2516_{8}"),
    ("-52_9", "-52_8"),
    ("-52_8", "52_8"),
    ("0.1_3", "0.1_2"),
    ("N=2516_{(9)}", "2,516_8"),
    ("2A_{\\text{twelve}}", "2A_{\\text{sixteen}}"),
    ("101010_2", "52_8"),
    ("x_1", "x_2"),
    ("1_" + "1" * 300, "1_2"),
]
HOPELESS = [
    "9^{9^{9^9}}",
    "5^5^5^5",
    "9**9**9**9",
    "10^{1000000}",
    "((9^{999})^{999})^{999}",
    "9^{2\\cdot 9^9}",
    "9999999!",
    "(5!)!",
    "\\binom{1000000}{500000}",
    "\\int_0^1 x^x dx",
    "\\sum_{k=1}^{10^9} k",
    "1" * 5000,
    "(" * 3000,
    "x" + "+x" * 3000,
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_the_same_mathematics_is_equal(answer: str, gold: str) -> None:
    assert equal(answer, gold) and equal(gold, answer)


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_different_answers_are_not(answer: str, gold: str) -> None:
    assert not equal(answer, gold)


@pytest.mark.parametrize("answer", HOPELESS, ids=lambda text: text[:20])
def test_what_would_take_for_ever_is_not_equal(answer: str) -> None:
    assert not equal(answer, "1")
    assert equal(answer, f" {answer} ")


def test_the_last_box_counts() -> None:
    text = "First \\boxed{1}. No: \\boxed{\\frac{1}{2}}."
    assert verify(text, "0.5") == VerifyResult("\\frac{1}{2}", correct=True, strict=False)
    assert verify(text, "\\frac{1}{2}") == VerifyResult("\\frac{1}{2}", correct=True, strict=True)
    assert verify(text, "\\boxed{\\frac{1}{2}}").strict
    assert verify("The answer is 5.", "5") == VerifyResult(None, correct=False, strict=False)


def test_it_works_off_the_main_thread() -> None:
    verdicts: list[VerifyResult] = []
    thread = threading.Thread(
        target=lambda: verdicts.append(verify("\\boxed{\\sqrt{8}}", "2\\sqrt{2}"))
    )
    thread.start()
    thread.join()
    assert [verdict.correct for verdict in verdicts] == [True]


JUNK = st.one_of(
    st.text(max_size=40),
    st.text("\\{}[]()^_$%&#~ 0123456789/+-*=!,.xyzfracboxedsqrt", max_size=40),
)


@examples(150)
@given(answer=JUNK, gold=JUNK)
def test_nothing_makes_it_raise(answer: str, gold: str) -> None:
    verdict = verify(f"\\boxed{{{answer}}}", gold)
    assert verdict.correct or not verdict.strict
    verify(answer, gold)


@examples(100)
@given(number=st.integers(-(10**40), 10**40), decimals=st.integers(0, 3))
def test_numbers_compare_exactly(number: int, decimals: int) -> None:
    written = f"{number:,}" + ("." + "0" * decimals if decimals else "")
    assert equal(written, str(number))
    assert not equal(written, str(number + 1))


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" + "{" * 500_000 + "}" * 500_000 + "}",
        "\\boxed{" * 140_000,
        "word " * 200_000 + "\\boxed{7}",
        "$" * 1_000_000,
        "\\boxed{" + "1" * 500_000 + "_" + "1" * 500_000 + "}",
        "\\boxed{\u0663}\u4e03" * 50_000,
    ],
    ids=["nested", "open", "words", "dollars", "bases", "others"],
)
def test_a_million_characters_are_no_trouble(text: str) -> None:
    assert verify(text, "7").correct == text.endswith("\\boxed{7}")


def test_tidying_keeps_what_matters() -> None:
    assert tidy(" \\left( 1 ,\\, 2 \\right) ") == "(1,2)"
    assert tidy("\\text{red}.") == "red"
    assert tidy("{a}+{b}") == "{a}+{b}"
    assert tidy("\\leftarrow") == "\\leftarrow"
