"""Answers that go on with reasoning that was cut off, and answers that only look like it."""

from __future__ import annotations

import pytest

from extracot.escapes import escape_of
from extracot.reasoning import ThinkTags

CUT = "So the total is 12 plus"
WHOLE = "So the total is 12 plus 7, which is 19."


@pytest.mark.parametrize(
    "answer",
    [
        "The sum is 8.\n</think>\n\nIt is 8.",
        "<think>\nOne more time.",
        "We had 12 and 7, so 19. </think>",
    ],
)
def test_a_spelled_tag_at_the_edge_of_a_line_is_an_escape(answer: str) -> None:
    assert escape_of(answer, WHOLE, ThinkTags()) == "tag"
    assert escape_of(answer, WHOLE, ThinkTags("[THINK]", "[/THINK]")) is None


@pytest.mark.parametrize(
    ("cut_off", "answer", "escaped"),
    [
        (CUT, "seven, which is 19.", True),
        (CUT, " 7, which is 19.", False),  # a number begins answers as well
        (CUT, ", no, times 7.", True),
        (CUT, "= 19", True),
        (CUT, "The answer is 19.", False),
        (CUT, "x = 19", False),
        (CUT, "**19**", False),
        (CUT, "- 12\n- 7", False),
        (CUT, "", False),
        ("", "seven, which is 19.", False),
        (WHOLE, "seven more than twelve.", False),
        (f"{WHOLE}\n", "seven more than twelve.", False),
        ("So (it is 19.)", "seven more than twelve.", False),
        ("所以总共是", "，也就是十九。", True),
        ("所以总共是十九。", "，也就是十九。", False),
        ("所以总共是", "答案是十九。", False),
        ("Итого двенадцать плюс", "семь, то есть 19.", True),
        ("Итого двенадцать плюс", "Ответ: 19.", False),
    ],
)
def test_a_sentence_that_goes_on(cut_off: str, answer: str, escaped: bool) -> None:
    assert escape_of(answer, cut_off, ThinkTags()) == ("sentence" if escaped else None)


@pytest.mark.parametrize(
    "answer",
    [
        "Wait, that is 8.",
        "It is 7. Wait, no: 8.",
        "It is 7.\n\nBut wait, 3 comes first.",
        "It is 7 (or so.) Wait – is it?",
        "Hmm, it is 7.",
        "Hmmm",
        "It is 7. Hold on, 8.",
        "It is 7. Let me check: 3 + 4 = 7.",
        "Let me double-check that.",
        "Let me re-read the question.",
        "**Wait**, no. Wait, yes.",
        "Okay, so I need to add them.",
        "It is 7. Actually, wait. It is 8.",
        "It is 7. That's not right.",
        "答案是七。等等，不对。",
        "让我再想一下。",
    ],
)
def test_second_thoughts(answer: str) -> None:
    assert escape_of(answer, WHOLE, ThinkTags()) == "second thought"


@pytest.mark.parametrize(
    "answer",
    [
        "The answer is \\boxed{19}.",
        "Wait for the bus, then walk.",
        "1. Mix.\n2. Wait 5 minutes.\n3. Bake.",
        "Please wait, then press the button.",
        '"Wait," she said. "Hold on."',
        "Let me know if you have questions.",
        "Let me explain the steps.",
        "Let's compute step by step: 12 + 7 = 19.",
        "Okay, so 19 is the answer.",
        "Okay, here is the plan.",
        "Alternatively, add 7 first.",
        "The tag `</think>` ends a block, and `<think>` begins it.",
        "def total(a, b):\n    return a + b",
        "请等一等再按按钮。",
        "让我们一步一步计算：12 + 7 = 19。",
    ],
)
def test_ordinary_answers_are_no_escapes(answer: str) -> None:
    assert escape_of(answer, WHOLE, ThinkTags()) is None


@pytest.mark.parametrize("marks", ["\n", "\n*", " \n", "\n#", "> \n"])
def test_marks_without_end_are_read_once(marks: str) -> None:
    """Each of them may begin a sentence; read anew from each, these would take minutes."""
    many = marks * 20_000
    assert escape_of(f"It is 7{many}x", WHOLE, ThinkTags()) is None
    assert escape_of(f"It is 7{many}Wait, 8.", WHOLE, ThinkTags()) == "second thought"
    assert escape_of("seven", f"It is{many}x", ThinkTags()) == "sentence"
