"""The cutter of steps, and labels on them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extracot_training.compression.step_labels import AtomLabel, StepLabel, StepLabels
from extracot_training.compression.steps import formula_spans, step_at, steps

PIECES = ("$", "$$", "\\[", "\\]", "\\(", "\\)", " ", "\n", ".", "?", "x", "A", "No.", "e.g.", "\\",
          '"', ")", "3", "!", "! ", "= ", ". B", ". b", " $x$ ")  # fmt: skip

# The rule as it was handed to those who mark traces, word by word: slow on long broken text, but
# short enough to be read and believed.
MATH = re.compile(
    r"\\\[.*?\\\]|\$\$.*?\$\$|\\\(.*?\\\)|(?<![\\$])\$(?!\$)(?:\\.|[^$\n\\])+\$", re.DOTALL
)
FACTORIAL = re.compile(r"(?:[\d)\]}]|(?<![^\W_])[^\W\d_])!+$")
OPERATORS = tuple("=+-−*×·∙/÷^<>≤≥≈≠")


def marked(text: str) -> list[tuple[int, int]]:
    inside = [m.span() for m in MATH.finditer(text)]
    cuts = [0]
    for m in re.finditer(r"(?<=[.!?])[\"')\]]*\s+(?=[^a-z\s])|\n+\s*", text):
        before = text[max(0, m.start() - 6) : m.start() + 1].rstrip()
        if any(a <= m.start() < b for a, b in inside):
            continue
        operator = "\n" not in m.group() and text[m.end() : m.end() + 1] in OPERATORS
        if operator and FACTORIAL.search(text[max(0, m.start() - 6) : m.start()]):
            continue
        if m.group()[0] != "\n" and re.search(r"\b(?:e\.g|i\.e|vs|cf|Mr|Mrs|Dr|No)\.$", before):
            continue
        if cuts[-1] < m.end() < len(text):
            cuts.append(m.end())
    return list(zip(cuts, [*cuts[1:], len(text)], strict=True))


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=40).map("".join))
def test_steps_are_those_by_which_traces_are_marked(text: str) -> None:
    assert steps(text) == marked(text)


@given(st.text())
def test_steps_cover_any_text(text: str) -> None:
    assert "".join(text[a:b] for a, b in steps(text)) == text
    assert all(a < b for a, b in steps(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("So x = 3. Wait, no. It's 4.", ["So x = 3. ", "Wait, no. ", "It's 4."]),
        ("We get 3.5 km, i.e. 3500 m.", ["We get 3.5 km, i.e. 3500 m."]),
        ("Is it? (Yes.) Fine!", ["Is it? ", "(Yes.) ", "Fine!"]),
        ("Then\n\\[x = 3.\n\\]\nDone.", ["Then\n", "\\[x = 3.\n\\]\n", "Done."]),
        ("So \\[a = 1. B\\] holds", ["So \\[a = 1. B\\] holds"]),
        ("It goes in 3! = 6 ways. So", ["It goes in 3! = 6 ways. ", "So"]),
        ("Of (n + 1)! / n! = n + 1. B", ["Of (n + 1)! / n! = n + 1. ", "B"]),
        ("(that is 4!) - 1. B", ["(that is 4!) - 1. ", "B"]),
        ("It is 5! That is all. No! = 3", ["It is 5! ", "That is all. ", "No! ", "= 3"]),
        ("It is 5!\n= 120", ["It is 5!\n", "= 120"]),
        ("It costs $5. But $x$ is 3.", ["It costs $5. But $x$ is 3."]),
        ("", []),
    ],
)
def test_cuts(text: str, parts: list[str]) -> None:
    assert [text[a:b] for a, b in steps(text)] == parts


def test_a_long_broken_text_is_cut_in_linear_time() -> None:
    """Unclosed openings are each looked for once; quadratic, this would take minutes."""
    text = "\\[ \\( $$ x\n" * 30_000
    assert len(steps(text)) > 1
    assert formula_spans("\\(" * 100_000) == []


def test_step_at() -> None:
    spans = steps("One. Two. Three.")
    assert [step_at(spans, at) for at in (0, 4, 5, 9, 10, 16)] == [0, 0, 1, 1, 2, 2]


def labels(**changes: object) -> StepLabels:
    """Of "x is 4. No, it is 3. So x is not 4."."""
    values: dict[str, object] = {
        "steps": (
            StepLabel(start=0, end=8, role="revoked", misstates=(0,)),
            StepLabel(start=8, end=21, role="needed", groups=(0,), revokes=(0,)),
            StepLabel(start=21, end=35, role="repeat", groups=(0,), refers=(1,)),
        ),
        "needs": (0,),
        "atoms": (AtomLabel(start=12, end=19, weight=1.0),),
    }
    return StepLabels.model_validate(values | changes)


def test_labels_of_a_text() -> None:
    good = labels()
    good.check("x is 4. No, it is 3. So x is not 4.")
    assert good.needed() == [1]
    assert good.alternatives(1) == [1, 2]
    with pytest.raises(ValueError, match="not those of the text"):
        good.check("x is 4. No, it is 3.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"atoms": (AtomLabel(start=2, end=4, weight=1.0),)}, "atoms.*not within one needed"),
        ({"protected": ((8, 12), (11, 13))}, "protected.*overlaps"),
        ({"protected": ((20, 23),)}, "protected.*not within one needed"),
        ({"needs": (0, 4)}, "fact 4 is needed"),
        ({"steps": (StepLabel(start=1, end=8, role="needed"),)}, "step 0 .*want"),
        ({"steps": (StepLabel(start=0, end=8, role="needed", refers=(0,)),)}, "points at 0"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        labels(**changes)
