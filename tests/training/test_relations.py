"""Word problems of relations: right, told in many ways, without a gap in the wording."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from extracot.answers import extract_answer, same_answer
from extracot_training.config.problems import RelationsSource
from extracot_training.errors import ConfigError
from extracot_training.math_text.normalise import ngrams, words
from extracot_training.synthetic.relations import SCENES, Relations
from extracot_training.synthetic.relations.bank import conjugated, rules
from tests.training.equations_told import equations_told
from tests.training.own_traces import all_kept

MADE = tuple(Relations(3).make(1200))


def test_every_equation_is_true_and_the_answer_is_the_last_result() -> None:
    for made in MADE:
        for text in (made.trace, made.terse):
            told = equations_told(text)
            assert told and all(told), text
        assert same_answer(extract_answer(made.final) or "", made.answer), made.final
        assert re.search(rf"(?<![\d.]){re.escape(made.answer)}(?!\d)", made.terse), made.terse


def test_every_scene_and_every_number_of_steps_occurs() -> None:
    assert {made.scene for made in MADE} == set(SCENES)
    steps = Counter(made.steps for made in MADE)
    assert set(steps) == {1, 2, 3, 4}
    assert steps[2] > steps[4] > 20


def test_nothing_is_left_to_fill_in_and_sentences_begin_with_a_capital() -> None:
    for made in MADE:
        for text in (made.question, made.trace):
            assert not re.search(r"[{}]|  | [.,?]|\bby I\b|\bto I\b|\.\.", text), text
        assert re.match(r"[A-Z0-9$]", made.question), made.question
        assert made.question.endswith((".", "?")), made.question
        assert not re.search(r"[.?] [a-z]", made.question), made.question


def test_numbers_of_a_question_that_is_not_an_aside_are_worked_with() -> None:
    for made in MADE:
        if made.scene in ("money", "crowd", "measure") and "%" not in made.question:
            asked = {int(n) for n in re.findall(r"\d+", made.question)}
            worked = {int(n) for n in re.findall(r"\d+", made.terse)}
            assert asked <= worked, made.question


def test_a_problem_is_the_same_for_every_size_and_hardly_any_is_told_twice() -> None:
    assert MADE[700] == Relations(3).problem(700)
    assert MADE[0] != Relations(4).problem(0)
    assert len({made.question for made in MADE}) > 1195
    grams = {gram for made in MADE for gram in ngrams(words(made.question, mask_numbers=True), 4)}
    assert len(grams) > 12_000


def test_every_relation_has_many_ways_of_saying_it() -> None:
    for kind in ("things", "money", "crowd", "measure"):
        for part in ("start", "get", "lose"):
            assert len(rules()[f"{kind}_{part}"]) >= 12
    for name in ("groups_start", "more_than", "fewer_than", "times_than", "half_lose", "share"):
        assert len(rules()[name]) >= 12
    assert all(len(set(lines)) == len(lines) > 1 for lines in rules().values())


@pytest.mark.parametrize(
    ("lemma", "third", "past", "said"),
    [
        ("buy", True, False, "buys"), ("buy", True, True, "bought"),
        ("carry", True, True, "carried"), ("sell", False, False, "sell"),
        ("wash", True, False, "washes"), ("are", False, True, "were"), ("have", True, False, "has"),
        ("use", False, True, "used"), ("play", True, False, "plays"),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
def test_verbs_agree(lemma: str, third: bool, past: bool, said: str) -> None:
    assert conjugated(lemma, third=third, past=past) == said


def test_thorough_traces_say_the_question_and_check_every_step() -> None:
    for made in Relations(5, verbosity=1.0, thorough=1.0).make(60):
        assert len(made.trace) > 2 * len(made.terse)
        assert all(equations_told(made.trace)), made.trace


def test_sums_and_differences_of_two_digits_are_written_out_where_that_is_wanted() -> None:
    equation = re.compile(r"(?<![\d.:] )\b(\d\d+ [-+] \d\d+) = \d+\.")
    plain, written = (
        list(Relations(5, verbosity=0.5, two_digits=on).make(200)) for on in (False, True)
    )
    told = 0
    for before, after in zip(plain, written, strict=True):
        assert before.question == after.question and before.answer == after.answer
        assert all(equations_told(after.trace)), after.trace
        for calculation in equation.findall(after.trace):
            told += 1
            assert f"{calculation}: ones " in after.trace
    assert told > 50
    assert sum(f"{made.trace}".count(": ones ") for made in plain) < told / 2


def test_an_unknown_scene_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown scene 'thing'.*things"):
        Relations(1, scenes=("thing",))
    with pytest.raises(ConfigError, match="empty"):
        Relations(1, scenes=())
    with pytest.raises(ValidationError, match="want one above 0"):
        RelationsSource(size=1, weights=(0, 0, 0, 0))


def test_the_configuration_makes_traces_that_teach_keeps_all_of(tmp_path: Path) -> None:
    all_kept("problems-smollm2-relations", 150, tmp_path)
