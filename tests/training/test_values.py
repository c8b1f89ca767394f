"""Exact values, what steps say, and which steps depend on which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.compression.dependencies import dependencies
from extracot_training.compression.final_answer import final_atoms, same_answer
from extracot_training.compression.reading import StepReading, question_values, read_step
from extracot_training.compression.segment import segment
from extracot_training.compression.takebacks import Cue, cues, protected_words
from extracot_training.math_text.values import flat, fraction_in, value_key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (r"\frac{36}{5}", "36/5"), ("7.2", "36/5"), ("36/5", "36/5"), (r"\dfrac{36}5", None),
        (r"3\frac{1}{2}", "7/2"), (r"\frac12", "1/2"), (r"2\sqrt{12} + 1", "1+4√3"),
        (r"\frac{3\sqrt{2}}{2}", "3/2√2"), (r"\sqrt{\frac{9}{4}}", "3/2"), ("√48", "4√3"),
        (r"\binom{7}{2}", "21"), ("5!", "120"), (r"\frac{7!}{2!3!}", "420"), ("2^{10}", "1024"),
        (r"12\pi \text{ cm}^2", "12π"), ("1,250", "1250"), (r"1{,}250", "1250"),
        ("18 dollars", "18"), (r"120^\circ", "120"), ("4(3 + 2)", "20"), ("-3", "-3"),
        (r"\frac{\sqrt{3}}{4} \cdot 36", "9√3"), ("x + 1", None), ("", None), ("1/0", None),
        ("9^{99999}", None), ("(((", None),
    ],
)  # fmt: skip
def test_values_are_exact(text: str, key: str | None) -> None:
    assert value_key(flat(text)) == key


@given(st.text(alphabet="0123456789+-*/()^√π!.,x \\{}$frac", max_size=60))
def test_any_text_is_a_value_or_none(text: str) -> None:
    key = value_key(flat(text))
    assert key is None or value_key(key) in (key, None)


def test_a_fraction_is_not_its_numerator() -> None:
    assert str(fraction_in(r"$\frac{36}{5}$")) == "36/5"
    assert same_answer(r"\frac{36}{5}", "7.2")
    assert not same_answer(r"\frac{36}{5}", "36")
    atoms = segment(r"There are 36 pens. So $x = \frac{36}{5}$. Then 36 again.")
    assert [atoms[i].body for i in final_atoms(atoms, "7.2")] == [r"$x = \frac{36}{5}$."]


@pytest.mark.parametrize(
    ("text", "defines"),
    [
        (r"So \(x = \frac{36}{5}\), and the area is 24 cm.", [("x", "36/5"), ("area", "24")]),
        (r"Then $AB = \sqrt{48} = 4\sqrt{3}$ and $P(A) = \frac23$.",
         [("AB", "4√3"), ("P(A)", "2/3")]),
        ("So x = 5 and y = 7.", [("x", "5"), ("y", "7")]),
        (r"\[ x^2 - 5x + 6 = 0 \implies x = 2 \text{ or } x = 3 \]", [("x", "2"), ("x", "3")]),
        ("Let a_n = 3n + 2.", [("a_n", "3n+2")]),
        ("f(3) = 2(3) + 1 = 7", [("f(3)", "7")]),
    ],
)  # fmt: skip
def test_definitions_are_read(text: str, defines: list[tuple[str, str]]) -> None:
    assert list(read_step(segment(text)).defines) == defines


def test_wrong_arithmetic_is_seen_and_estimates_are_not() -> None:
    assert read_step(segment("So 4 · 3 = 13.")).wrong
    assert not read_step(segment(r"$4 \cdot 3 = 12$")).wrong
    assert not read_step(segment(r"$\sqrt{2} \approx 1.4$")).wrong


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("So the time is 360 / 15 = 24 minutes.", {"360", "15"}),
        (r"Then $x = \frac{360}{15} = 24$.", {"360", "15"}),
        ("That is 16 ÷ 2 = 8.", {"16", "2"}),
        ("It takes 360 / 21, which is long.", {"120/7", "360", "21"}),
        (r"Of it $\frac{36}{5}$ remain.", {"36/5"}),
        ("So AB = 36/5.", set()),
        (r"$x = 12 = \frac{24}{2}$", set()),
    ],
)
def test_what_is_divided_is_used_and_a_fraction_is_a_value(text: str, uses: set[str]) -> None:
    assert read_step(segment(text)).uses == uses


def test_a_quotient_refers_to_what_it_is_made_of() -> None:
    readings = _readings("The tank gains 18 - 3 = 15 litres.", "So the time is 360 / 15 = 24.")
    assert dependencies(readings, ("360",), [1]).hops == (1, 0)


def test_a_question_states_numbers_in_words_too() -> None:
    assert question_values(r"Three of \(\frac{1}{2}\) and 40") == {"3", "1/2", "40"}


def _readings(*texts: str) -> list[StepReading]:
    return [read_step(segment(text)) for text in texts]


def test_a_use_refers_to_the_latest_definition_that_is_not_revoked() -> None:
    readings = _readings("So x = 40.", "Now x = 41.", "No, x = 42.", "Then x + 1 is large.")
    for revoked, source in ((set(), 2), ({2}, 1), ({1, 2}, 0)):
        found = dependencies(readings, (), [3], revoked)
        assert [edge.source for edge in found.edges[3] if edge.key == "x"] == [source]


def test_the_graph_goes_by_whole_values() -> None:
    readings = _readings(
        "I count 36 tiles.", r"So $r = \frac{36}{5}$.", r"Then $2r = 2 \cdot 7.2 = 14.4$.",
        r"It is $14.4$.",
    )  # fmt: skip
    found = dependencies(readings, ("5",), [3])
    assert found.reach[1] > 0.5
    assert found.reach[0] < found.reach[1]
    assert found.hops == (None, 2, 1, 0) or found.hops[1:] == (2, 1, 0)


def test_other_values_of_a_name_and_repeats_are_found() -> None:
    readings = _readings("So $k = 5$.", "Nothing here.", "So $k = 7$.", "Again $k = 5$.")
    found = dependencies(readings, (), [3])
    assert found.overruled[0] == (2,)
    assert found.repeats[3] == 0


def test_cues_and_protected_words() -> None:
    assert Cue.DOUBT in cues("Wait, is it?")
    assert Cue.TAKEBACK in cues("I forgot that it's taken.")
    text = "Ana cannot be first unless at least two aren't there."
    words = [text[a:b] for a, b in protected_words(text)]
    assert words == ["cannot", "first", "unless", "at least", "aren't"]
