"""Questions for the sum of several stories: what they need, that nothing else tells it, and that
the rules annotator keeps what they are worked out from."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from pydantic import ValidationError

from extracot_training.config.problems import ProblemsConfig
from extracot_training.errors import ConfigError
from extracot_training.pipeline.records import Problem, read_rows
from extracot_training.stages.problems.sources.synthetic import read
from extracot_training.stages.problems.stage import run
from extracot_training.synthetic import Generator
from extracot_training.synthetic.interleaved import well_posed
from extracot_training.synthetic.story import WordProblem
from tests.training.test_generator import equations, value_of
from tests.training.test_interleaved import CHOSEN, asked_name, kept, people_named, source, story


def summing(
    seed: int = 1, *, thorough: bool = True, asked: tuple[int, ...] = (1, 2, 3)
) -> Generator:
    return Generator(
        seed, 150, (2, 3), CHOSEN, threads=3, interleaved=not thorough, thorough=thorough,
        asked=asked,
    )  # fmt: skip


def results(trace: str) -> dict[str, int]:
    """Whose result is what, as the last paragraph lists them."""
    return {who: int(n) for who, n in re.findall(r"([A-Z][a-z]+) (\d+)", trace.split("\n\n")[-1])}


def asked_names(question: str) -> list[str]:
    """Whom the last sentence names."""
    end = re.split(r"(?<=[.?]) ", question)[-1]
    found = re.findall(r"([A-Z][a-z]+)'s", end)
    return found or [asked_name(question)]


@pytest.mark.parametrize("thorough", [False, True])
def test_a_question_asks_for_the_sum_of_one_two_or_three_stories(thorough: bool) -> None:
    made = [summing(thorough=thorough).problem(index) for index in range(120)]
    counts = Counter(len(one.families) for one in made)
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) >= 25
    orders = set()
    for one in made:
        told = results(one.trace)
        names = asked_names(one.question)
        assert len(names) == len(one.families)
        assert one.family == one.families[0]
        assert one.answer == sum(told[name] for name in names)
        assert one.final.endswith(f"\\boxed{{{one.answer}}}")
        for left, right in equations(one.terse):
            assert value_of(left) == int(right) <= 150
        assert len(one.terse.splitlines()) == one.steps + len(names) - 1
        if len(names) > 1:
            assert equations(one.terse)[-1][1] == str(one.answer)
            # Whose results, in the order asked; what each is comes before its number.
            assert re.findall(r"([A-Z][a-z]+), [a-z]", one.final) == names
            added = equations(one.final)
            assert [value_of(left) for left, _ in added] == [int(right) for _, right in added]
            assert re.findall(r"\d+", added[0][0]) == [str(told[n]) for n in names[:2]]
            orders.add(tuple(list(told).index(name) for name in names))
    # Any two, and all three, in any order.
    assert len(orders) == 12


def test_what_is_asked_shows_in_no_reasoning_and_no_number() -> None:
    stories = [summing().problem(index) for index in range(40)]
    assert len({len(one.families) for one in stories}) == 3
    for index, one in enumerate(stories):
        other = summing(asked=(3,)).problem(index)
        assert other.trace == one.trace
        assert set(other.stories) == set(one.stories)
        assert len(other.families) == 3
    for one in stories:
        told = results(one.trace)
        sums = [a + b for a, b in combinations(told.values(), 2)] + [sum(told.values())]
        assert len(set(sums)) == 4
        assert max(sums) <= 150
        stated = {int(n) for n in re.findall(r"\d+", one.question + one.trace)}
        assert not stated & set(sums)


def test_shares_of_how_many_are_asked_follow_the_setting() -> None:
    def counts(asked: tuple[int, ...]) -> Counter[int]:
        return Counter(len(one.families) for one in summing(asked=asked).make(90))

    assert counts((2,)) == {2: 90}
    assert counts((1, 3)).keys() == {1, 3}
    often = counts((1, 1, 1, 2))
    assert often[1] > 2 * often[2] > 0
    # One alone is what it always was, however it is written.
    alone = Generator(1, 30, (2, 3), CHOSEN, threads=3)
    for index in range(12):
        again = Generator(1, 30, (2, 3), CHOSEN, threads=3, asked=(1, 1)).problem(index)
        assert again == alone.problem(index)


@pytest.mark.parametrize("asked", [(), (0,), (4,), (1, 4), (-1,)])
def test_a_number_of_stories_that_are_not_there_is_refused(asked: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"asked \[.*\]: want numbers of stories within 1..3"):
        summing(asked=asked)
    with pytest.raises(ValidationError, match="asked"):
        source(asked=asked)


def test_sums_that_are_too_large_or_occur_elsewhere_are_not_well_posed() -> None:
    ana, ben = story("Ana", 3, 4), story("Ben", 5, 8)
    assert well_posed([ana, ben, story("Carmen", 20, 20)])
    third = story("Carmen", 22, 38)
    assert well_posed([ana, ben, third], 3, 80)
    assert not well_posed([ana, ben, third], 3, 79)
    assert well_posed([ana, ben, third], 2, 79)
    # 7 + 13 is given to the third; 7 + 13 is what the third comes to; 7 + 16 is 10 + 13.
    assert well_posed([ana, ben, story("Carmen", 20, 41)])
    assert not well_posed([ana, ben, story("Carmen", 20, 41)], 2, 150)
    assert not well_posed([ana, ben, story("Carmen", 9, 11)], 2, 150)
    four = [ana, ben, story("Carmen", 14, 2), story("Dario", 1, 9)]
    assert well_posed(four)
    assert not well_posed(four, 2, 150)


def test_no_asked_story_of_a_new_problem_is_known(tmp_path: Path) -> None:
    known = tmp_path / "known"
    sums = {"asked": (1, 2, 3), "max_number": 60}
    run(ProblemsConfig(out=known, sources=(source(size=300, **sums), source(size=300, threads=1))))
    told = {story for row in read_rows(known, Problem) for story in row.meta["stories"]}
    plain = list(read(source(seed=5, size=200, **sums)))
    new = list(read(source(seed=5, size=60, unlike=(known,), **sums)))
    assert {row.meta["asked"] for row in new} == {1, 2, 3}
    for row in new:
        assert not told.intersection(row.meta["stories"][: row.meta["asked"]])
    kept = [r.id for r in plain if not told.intersection(r.meta["stories"][: r.meta["asked"]])]
    assert [row.id for row in new] == kept[: len(new)]
    assert new[-1].meta["index"] >= len(new), "some were left out"


def test_a_problem_that_asks_for_a_held_out_family_is_held_out() -> None:
    rows = list(read(source(size=80, asked=(1, 2, 3), max_number=150, heldout=("hens",))))
    made = summing_source(80)
    for row, one in zip(rows, made, strict=True):
        assert (row.split == "heldout_families") == ("hens" in one.families)
        assert row.meta["asked"] == len(one.families)
    assert any("hens" in one.families[1:] for one in made)


def summing_source(size: int) -> list[WordProblem]:
    return list(Generator(0, 150, (2, 3), CHOSEN, threads=3, asked=(1, 2, 3)).make(size))


@pytest.mark.parametrize("thorough", [False, True])
def test_rules_keep_all_asked_stories_and_no_other(thorough: bool) -> None:
    for made in summing(2, thorough=thorough).make(60):
        formulas, text = kept(made.question, made.trace, str(made.answer), made.final)
        asked = asked_names(made.question)
        # Sums are worked out behind the reasoning.
        told = made.terse.splitlines()[: made.steps]
        assert sorted(formulas) == sorted(told)
        assert set(people_named(text)) == set(asked)
        listed = text.split("\n\n")[-1]
        assert all(str(results(made.trace)[name]) in re.findall(r"\d+", listed) for name in asked)


def test_each_asked_story_needs_about_a_fifth_of_the_trace() -> None:
    needs: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for made in summing(5).make(120):
        _, text = kept(made.question, made.trace, str(made.answer), made.final)
        pieces = [len(re.findall(r"\w+|[^\w\s]", one)) for one in (text, made.trace)]
        needs[len(made.families)].append(pieces[0] / pieces[1])
    for asked, shares in needs.items():
        mean = sum(shares) / len(shares)
        assert 0.2 * asked - 0.08 < mean < 0.2 * asked + 0.02


def test_equations_of_the_answer_count_only_where_the_reasoning_lacks_it() -> None:
    question = "Ana has 4 pens and buys 3. Ben has 5 pens and buys 8."
    trace = "Ana: 4 + 3 = 7. Ben: 5 + 8 = 13. Ana and Ben: 7 + 13 = 20."
    other = "Ben 13. 13 + 7 = 20. \\boxed{20}"
    assert kept(question, trace, "20", other)[0] == ["4 + 3 = 7", "5 + 8 = 13", "7 + 13 = 20"]
    assert kept(question, trace, "13", "Ben has 13. 4 + 9 = 13. \\boxed{13}")[0] == ["5 + 8 = 13"]
    brief = "Ana: 4 + 3 = 7. Ben: 5 + 8 = 13. Cleo: 9 + 1 = 10."
    assert kept(question, brief, "20", other)[0] == ["4 + 3 = 7", "5 + 8 = 13"]
    # A wrong one, or none that starts from anything here, tells nothing: all are kept.
    for answer in ("7 + 13 = 21. \\boxed{21}", "\\boxed{21}", "20 + 1 = 21. \\boxed{21}"):
        assert kept(question, brief, "21", answer)[0] == ["4 + 3 = 7", "5 + 8 = 13", "9 + 1 = 10"]
