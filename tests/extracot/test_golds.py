r"""Golds out of other people's data: read right, or refused with a reason."""

from __future__ import annotations

import math

import pytest

from extracot.golds import GoldError, closing, read_gold
from extracot.think_tags import PAIRS

READ = [
    ("72", "72"),
    (" 7 \n", "7"),
    ("\ufeff7", "7"),
    (72, "72"),
    (27.0, "27"),
    (2.50, "2.5"),
    (-3, "-3"),
    (1e-05, "0.00001"),
    ("48/2 = <<48/2=24>>24\n#### 72", "72"),
    ("She has 3.\n#### 1,200", "1200"),
    ("#### $1,234,567.50", "1234567.50"),
    ("#### -1,200", "-1200"),
    ("#### 10\nThe answer is: 10", "10"),
    ("x = 10\n#### 10\n\nThe answer is 10.", "10"),
    ("#### 1, 2, 3", "1, 2, 3"),
    ("#### 1,2", "1,2"),
    ("#### (1,2)", "(1,2)"),
    ("#### (1,000)", "(1,000)"),
    ("#### $x+1$", "$x+1$"),
    ("####72", "72"),
    ("work\n#### \\boxed{5}", "5"),
    ("work\n#### Answer: 12", "12"),
    ("work\n#### Final Answer\n12", "12"),
    ("work\n#### **Answer:** 12", "12"),
    ("#### Step 1: add\n2 + 2 = 4\n#### Step 2: double\nSo \\boxed{8}.", "8"),
    ("#### Step 1\n2 + 2 = 4\n#### 4", "4"),
    ("Two ways.\n#### Adding them up\n2 + 2 = 4\nThe answer is: 4", "4"),
    ("So it is 5.\nThe answer is: 5", "5"),
    ("We get \\frac{1}{2}. The final answer is $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("It is \\boxed{3}. Check: 3. Thus \\boxed{3}.", "3"),
    ("First \\boxed{0.5}, that is \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\begin{pmatrix} 1 \\\\\n2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\\n2 \\end{pmatrix}"),
    ("Friday", "Friday"),
    ("3 feet 6 inches", "3 feet 6 inches"),
    ("Yes. It is prime.", "Yes. It is prime."),
    ("First 5+2=7. Therefore the answer is 7.", "7"),
    ("Answer: 7", "7"),
    ("5+2=7\nFinal answer: 7", "7"),
    ("5+2=7. **Answer:** 7", "7"),
    ("<think>5+2=7</think>\n\\boxed{7}", "7"),
    *[
        (text, text)
        for text in (
            "Paris. France",
            "9 a.m.",
            "7 a.m. Monday 3",
            "No. 5",
            "Mr. Smith, 7",
            "St. Louis 3",
            "J. K. Rowling 7",
            "Washington D.C. 20001",
            "x = 1, y = 2",
            "5 + 2 = 7",
            # words and signs that a program may write for nothing, and people for an answer
            "none",
            "None of them",
            "\\text{None}",
            "infinity",
            "-\\infty",
            "undefined",
            "Na",
            "na",
            "x",
            "N",
            "5!",
            "+",
            "-5",
            "\\emptyset",
        )
    ],
]
# What stands for a missing answer: in CSVs of programs, in spreadsheets, by people.
PLACEHOLDERS = [
    "N/A", "n/a", "NA", "#N/A", "#NA", "n.a.", "N.A.", "#REF!", "#DIV/0!", "#VALUE!",
    "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#ERROR!", "#GETTING_DATA", "Err:502", "?", "??",
    "-", "--", "–", "—", "…", "__", "TBD", "tbd", "TBA", "unknown", "Unknown",
    "unknown.", "inf", "-inf", "None", "NaN", "nan", "-nan", "null", "(null)", "<NA>",
    "<none>", "NaT", "\\N", "to be determined", "not available", "$-$",
]  # fmt: skip
REFUSED = [
    (None, "is null"),
    (True, "is true"),
    ([1], "is a list"),
    ({"a": 1}, "is an object"),
    (math.nan, "is NaN"),
    (-math.inf, "is -Infinity"),
    (10**400, "a number of 401 digits"),
    ("7" * 400, "a number of 400 digits"),
    (1e300, "digits"),
    ("", "holds no answer"),
    (" \n\t", "holds no answer"),
    ("$$", "holds no answer"),
    ("NaN", "is 'NaN', a placeholder and no answer"),
    ("['7']", "is \"['7']\""),
    ("work\n####  ", "nothing behind '####'"),
    ("#### 10\nThe answer is: 11", "two answers, '10' behind '####' and '11'"),
    ("So \\boxed{3} or \\boxed{5}.", "boxes with different answers, '3' and '5'"),
    ("So \\boxed{}.", "nothing in it"),
    ("So \\boxed{5", "nothing in it or no end"),
    ("She sells half of them.\nThat is 24 clips.\nThen 72 in all.", "without an answer"),
    ("#### Step 1: add\nThey are 4.\n#### Step 2: double\nThey are 8.", "without an answer"),
    ("She sold half as many clips in May as she did in April. In all she sold 72.", "without an"),
    ("First 5+2=7. So seven.", "several sentences, 'First 5+2=7. So seven.'"),
    ("We add 5 and 2. We get 7.", "several sentences, 'We add"),
    ("The answer is 7. That is 5+2=7.", "several sentences, '7. That"),
    ("<think>5+2</think>7", "think tags"),
    ("[THINK]5+2[/THINK] 7", "has think tags in its"),
    ("word " * 200, "without an answer"),
]


@pytest.mark.parametrize(("value", "answer"), READ)
def test_the_answer_is_found(value: object, answer: str) -> None:
    assert read_gold(value).answer == answer


@pytest.mark.parametrize(("value", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_holds_no_answer_is_refused_with_what_is_wanted(value: object, why: str) -> None:
    with pytest.raises(GoldError) as refused:
        read_gold(value)
    assert why in str(refused.value)
    assert "want" in str(refused.value) or "two answers" in str(refused.value)


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_a_placeholder_is_no_answer(text: str) -> None:
    for field in (text, f" {text}\n", f"work\n#### {text}", f"\\boxed{{{text}}}"):
        with pytest.raises(GoldError) as refused:
            read_gold(field)
        assert f"is {text!r}, a placeholder" in str(refused.value)
    assert closing(f"5 + 2 = 7\n#### {text}") is None


def test_the_error_of_none_says_how_to_write_the_answer() -> None:
    with pytest.raises(GoldError, match="write none where that is the answer"):
        read_gold("None")


@pytest.mark.parametrize(("start", "end"), PAIRS)
def test_think_tags_of_every_family_are_no_answer(start: str, end: str) -> None:
    for tag in (start, end, start.title(), end.lower()):
        with pytest.raises(GoldError, match="think tags"):
            read_gold(f"{tag} 7")


def test_the_solution_before_the_answer_is_kept() -> None:
    assert read_gold("48/2 = 24\n#### 24").solution == "48/2 = 24"
    assert read_gold("It is \\boxed{3}.").solution == "It is \\boxed{3}."
    assert read_gold("So 2 + 3 = 5.\nThe answer is: 5").solution == "So 2 + 3 = 5."
    assert read_gold("5+2=7. Therefore the answer is 7.").solution.startswith("5+2=7.")
    assert read_gold("Answer: 7").solution == ""
    assert read_gold("\\boxed{3}").solution == read_gold("7").solution == ""


def test_long_texts_are_read_in_linear_time() -> None:
    for text in (
        "\\boxed{" * 100_000,
        "{" * 300_000,
        "#### " * 100_000,
        "\\boxed{1" * 50_000 + "}" * 50_000,
    ):
        with pytest.raises(GoldError):
            read_gold(text)
