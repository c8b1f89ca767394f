"""Problems of several stories in one trace: true, in order, and decided by the question alone."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extracot_training.compression.final_answer import MARK, redact
from extracot_training.compression.segment import FORMULAS, join, segment
from extracot_training.config.problems import GeneratorSource, ProblemsConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.math_text.normalise import problem_id
from extracot_training.pipeline.records import Problem, Trace, read_rows, write_rows
from extracot_training.stages.annotate import chain
from extracot_training.stages.annotate.base import Job
from extracot_training.stages.annotate.chain import Link, Mention, leading_to, other_people
from extracot_training.stages.annotate.rules import RulesAnnotator
from extracot_training.stages.problems.sources import synthetic
from extracot_training.stages.problems.sources.synthetic import read
from extracot_training.stages.problems.stage import run
from extracot_training.synthetic import FAMILIES, Generator, digest, interleaved
from extracot_training.synthetic.interleaved import (
    FAMILIES_WITHOUT_NAMES,
    InterleavedStory,
    people,
    problem,
    tell,
    well_posed,
)
from extracot_training.synthetic.story import NAMES, Draw, Reject, Story
from tests.examples import examples
from tests.training.test_generator import equations, value_of

CHOSEN = ("baking", "garden", "hens", "marbles", "reading", "savings", "shopping", "subscription")


def generator(seed: int = 1, threads: int = 3, max_number: int = 20) -> Generator:
    return Generator(seed, max_number, (2, 3), CHOSEN, threads=threads)


def sheet(seed: int) -> list[InterleavedStory]:
    """Three stories that go together."""
    rng = Random(seed)
    for _ in range(20_000):
        stories = [Story(20) for _ in range(3)]
        names = [rng.choice(CHOSEN) for _ in stories]
        try:
            for name, story in zip(names, stories, strict=True):
                FAMILIES[name].write(Draw(rng, 20, rng.randint(2, 3)), story)
        except Reject:
            continue
        if well_posed(stories):
            return [
                InterleavedStory(people(s)[0], n, s) for n, s in zip(names, stories, strict=True)
            ]
    raise AssertionError("no three stories go together")


@examples(40)
@given(seed=st.integers(0, 10**6), index=st.integers(0, 50), threads=st.integers(2, 4))
def test_every_equation_holds_and_only_the_answer_is_the_answer(
    seed: int, index: int, threads: int
) -> None:
    made = generator(seed, threads, 30).problem(index)
    told = equations(made.trace)
    for left, right in told:
        assert value_of(left) == int(right)
    # All steps of all stories and one check.
    assert len(told) >= 2 * threads + 1
    assert all(int(number) <= 30 for number in re.findall(r"\d+", made.question + made.trace))
    assert equations(made.terse)[-1][1] == str(made.answer)
    assert made.final.endswith(f"\\boxed{{{made.answer}}}")
    # The answer's number says nothing else, neither in the question nor in the trace: hidden, it
    # is gone from its last equation, perhaps its check, and the list of results.
    assert str(made.answer) not in re.findall(r"\d+", made.question)
    hidden = redact(made.trace, str(made.answer))
    assert hidden.count(MARK) == hidden.count(f"= {MARK}") + 1


@pytest.mark.parametrize("seed", range(5))
def test_the_trace_is_the_same_whatever_is_asked(seed: int) -> None:
    stories = sheet(seed)
    trace = tell(stories, Random(seed))
    asked = [problem(0, stories, [place], trace, Random(seed)) for place in range(3)]
    assert len({one.trace for one in asked}) == 1
    assert len({one.question for one in asked}) == len({one.answer for one in asked}) == 3
    # The stories stand in all questions alike; only the end of a question differs.
    facts = " ".join(" ".join(story.story.facts) for story in stories)
    assert all(one.question.startswith(facts) for one in asked)
    for story, one in zip(stories, asked, strict=True):
        assert story.who in one.question.removeprefix(facts)
        others = {other.who for other in stories} - {story.who}
        assert not any(other in one.question.removeprefix(facts) for other in others)


def test_each_story_is_told_in_its_order_and_stories_are_mixed() -> None:
    mixed = 0
    for seed in range(12):
        stories = sheet(seed)
        steps = tell(stories, Random(seed)).split("\n\n")[0].split(". ")[1:]
        turns = [next(t.who for t in stories if t.who in step) for step in steps]
        for story in stories:
            own = [step.rstrip(".") for step in steps if story.who in step]
            results = [int(step.rpartition("= ")[2]) for step in own]
            assert results == [step.result.value for step in story.story.steps]
        mixed += turns != sorted(turns, key=turns.index)
    assert mixed >= 9


def test_stories_can_be_told_one_after_the_other() -> None:
    for seed in range(6):
        stories = sheet(seed)
        mixed, plain = (tell(stories, Random(seed), interleaved=on) for on in (True, False))
        steps = plain.split("\n\n")[0].split(". ")[1:]
        turns = [next(t.who for t in stories if t.who in step) for step in steps]
        assert turns == [story.who for story in stories for _ in story.story.steps]
        assert people_in_results(plain) == [story.who for story in stories]
        assert sorted(equations(plain.split("\n\n")[0])) == sorted(
            equations(mixed.split("\n\n")[0])
        )
    told = Generator(1, 20, (2, 3), CHOSEN, threads=3, interleaved=False).problem(4)
    assert told.answer == generator().problem(4).answer
    assert told.trace != generator().problem(4).trace


def test_any_story_may_be_asked_for_and_families_take_turns() -> None:
    made = [generator().problem(index) for index in range(48)]
    assert {name: sum(p.family == name for p in made) for name in CHOSEN} == dict.fromkeys(
        CHOSEN, 6
    )
    places = [
        [name for name in people_in(p.trace.split("\n\n")[0])].index(asked_name(p.question))
        for p in made
    ]
    assert {0, 1, 2} <= set(places)


def test_distinct_stories_are_of_different_families(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []

    def spy(stories: list[InterleavedStory], rng: Random, **how: bool) -> str:
        told.append([story.family for story in stories])
        return tell(stories, rng, **how)

    monkeypatch.setattr(interleaved, "tell", spy)
    apart = Generator(3, 20, (2, 3), CHOSEN, threads=3, distinct=True)
    made = list(apart.make(24))
    assert all(len(set(families)) == 3 for families in told)
    assert all(one.family in families for one, families in zip(made, told, strict=True))
    assert {family for families in told for family in families} == set(CHOSEN)
    told.clear()
    list(generator(3).make(24))
    assert any(len(set(families)) < 3 for families in told)
    with pytest.raises(ConfigError, match="distinct: 3 threads want as many families, there are 2"):
        Generator(3, 20, (2, 3), CHOSEN[:2], threads=3, distinct=True)


def thorough(seed: int = 1) -> Generator:
    return Generator(seed, 30, (2, 3), CHOSEN, threads=3, interleaved=False, thorough=True)


@pytest.mark.parametrize("seed", [3, 4])
def test_thorough_telling_concludes_and_checks_every_story_in_turn(seed: int) -> None:
    for made in thorough(seed).make(16):
        _opening, *stories, results = made.trace.split("\n\n")
        told = re.findall(r"([A-Z][a-z]+) (\d+)", results)
        assert len(stories) == len(told) == 3
        for story, (who, value) in zip(stories, told, strict=True):
            *steps, (check, checked) = equations(story)
            assert steps[-1][1] == checked == value
            assert value_of(check) == int(value)
            assert people_in(story) == [who]
            assert re.search(rf"{who}( has)? {value}\.", story)
        asked = asked_name(made.question)
        assert dict(told)[asked] == str(made.answer)
        # Who reads the answer need not ask whose it is.
        assert made.final.startswith(f"{asked}, ")
        assert made.final.endswith(f"\\boxed{{{made.answer}}}")
        hidden = redact(made.trace, str(made.answer))
        assert not re.search(rf"\b{made.answer}\b", hidden)


def test_thorough_wants_stories_in_turn() -> None:
    with pytest.raises(ConfigError, match="thorough: wants interleaved: false"):
        Generator(1, 30, (2, 3), CHOSEN, threads=3, thorough=True)
    for wrong in ({}, {"interleaved": False, "threads": 1}):
        with pytest.raises(ValidationError, match="interleaved: false and two threads or more"):
            source(thorough=True, **wrong)
    (told,) = read(source(thorough=True, interleaved=False, size=1))
    made = Generator(0, 20, (2, 3), CHOSEN, threads=3, interleaved=False, thorough=True)
    assert told.solution == made.problem(0).trace


def test_new_stories_are_those_that_no_problem_of_a_folder_tells(tmp_path: Path) -> None:
    known = tmp_path / "known"
    run(ProblemsConfig(out=known, sources=(source(size=60), source(size=60, threads=1))))
    told = {story for row in read_rows(known, Problem) for story in row.meta["stories"]}
    assert len(told) > 150
    # The stories of this seed, and nothing that says who they are about.
    plain = list(read(source(seed=5, size=200)))
    assert all(row.meta["stories"][0] != row.question for row in plain)
    assert not any(people_named(story) for row in plain for story in row.meta["stories"])
    new = list(read(source(seed=5, size=40, unlike=(known,))))
    assert len(new) == 40
    assert not {row.meta["stories"][0] for row in new} & told
    # Left out are exactly those that are known.
    last = new[-1].meta["index"]
    kept = [row.id for row in plain[: last + 1] if row.meta["stories"][0] not in told]
    assert [row.id for row in new] == kept
    assert len(kept) < last + 1


def test_a_folder_without_stories_or_one_that_leaves_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "known"
    run(ProblemsConfig(out=known, sources=(source(size=30),)))
    monkeypatch.setattr(synthetic, "KNOWN_IN_A_ROW", 30)
    with pytest.raises(StageError, match="30 stories in a row are known; 0 were not"):
        list(read(source(size=1, unlike=(known,))))
    rows = [row.model_copy(update={"meta": {}}) for row in read_rows(known, Problem)]
    write_rows(known / "rows.jsonl", rows)
    with pytest.raises(StageError, match="has problems without stories; make them again"):
        list(read(source(size=1, unlike=(known,))))
    with pytest.raises(StageError, match="does not exist"):
        run(ProblemsConfig(out=tmp_path / "x", sources=(source(unlike=(tmp_path / "none",)),)))


def people_named(text: str) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+", text)) & set(NAMES)


def people_in_results(trace: str) -> list[str]:
    return re.findall(r"([A-Z][a-z]+) \d", trace.split("\n\n")[2])


def people_in(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\b[A-Z][a-z]+(?=[,:] )", text)))


def asked_name(question: str) -> str:
    found = re.search(r"(?:about|Only) ([A-Z][a-z]+)(?: counts now)?\. [^.]*\?$", question)
    assert found is not None, question
    return found[1]


def test_problems_are_the_same_every_time_and_differ_by_seed() -> None:
    assert generator().problem(7) == generator().problem(7)
    assert digest(list(generator().make(8))) == digest([generator().problem(i) for i in range(8)])
    assert digest(list(generator(1).make(8))) != digest(list(generator(2).make(8)))
    assert digest(list(generator(1, 2).make(8))) != digest(list(generator(1, 3).make(8)))
    # One story is what it always was.
    assert Generator(1).problem(3) == Generator(1, threads=1).problem(3)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_always_names_somebody_or_is_listed(name: str) -> None:
    family = FAMILIES[name]
    named = []
    for attempt in range(60):
        story = Story(3000)
        try:
            family.write(Draw(Random(attempt), 3000, family.steps[attempt % 2]), story)
        except Reject:
            continue
        named.append(bool(people(story)))
    assert named
    assert all(named) if name not in FAMILIES_WITHOUT_NAMES else not any(named)


def test_nameless_families_are_refused_or_left_out() -> None:
    with pytest.raises(ConfigError, match="'bus' names nobody"):
        Generator(0, families=("bus",), threads=2)
    assert not {f.name for f in Generator(0, threads=2).chosen()} & FAMILIES_WITHOUT_NAMES
    with pytest.raises(ConfigError, match="threads 0: want 1 or more"):
        Generator(0, threads=0)


def story(who: str, first: int, second: int) -> Story:
    """Somebody's pens and rulers, added up."""
    one = Story(150)
    a, b = one.given(first, "the pens"), one.given(second, "the rulers")
    one.fact(f"{who} has {first} pens and {second} rulers.")
    one.add((a, b), "all things")
    one.question("How many?", "{}.")
    return one


def test_stories_that_share_a_person_an_equation_or_an_answer_do_not_go_together() -> None:
    assert well_posed([story("Ana", 3, 4), story("Ben", 5, 8)])
    assert not well_posed([story("Ana", 3, 4), story("Ana", 5, 8)])
    assert not well_posed([story("Ana", 3, 4), story("Ben", 4, 3)])
    assert not well_posed([story("Ana", 3, 4), story("Ben", 7, 8)])
    assert not well_posed([story("Ana", 3, 4), story("Ben", 5, 2)])
    assert not well_posed([story("Nobody", 3, 4), story("Ben", 5, 8)])
    assert not well_posed([story("Ana", 1, 0), story("Ben", 5, 8)])


# -- through the stage


def source(**changes: object) -> GeneratorSource:
    settings_ = {"size": 6, "max_number": 20, "steps": (2, 3), "threads": 3, "trace": "brief"}
    return GeneratorSource(families=CHOSEN, **{**settings_, **changes})  # type: ignore[arg-type]


def test_rows_say_how_many_stories_and_that_they_are_synthetic(tmp_path: Path) -> None:
    run(ProblemsConfig(out=tmp_path, sources=(source(),)))
    rows = list(read_rows(tmp_path, Problem))
    assert len(rows) == 6
    assert all(row.synthetic and row.meta["threads"] == 3 for row in rows)
    assert [row.id for row in rows] == [problem_id("generator", row.question) for row in rows]
    made = {one.question: one for one in Generator(0, 20, (2, 3), CHOSEN, threads=3).make(6)}
    assert all(row.solution == made[row.question].trace for row in rows)


def test_several_stories_want_brief_traces() -> None:
    with pytest.raises(ValidationError, match="with 3 threads: want 'brief'"):
        source(trace="verbose")


# -- what the rules annotator makes of them


def kept(question: str, trace: str, gold: str, answer: str | None = None) -> tuple[list[str], str]:
    atoms = segment(trace)
    row = Trace(
        problem_id="p", sample=0, question=question, reasoning=trace, answer=answer or gold,
        gold=gold, teacher="t",
    )  # fmt: skip
    (verdict,) = RulesAnnotator().annotate([Job(row, atoms)])
    formulas = [atoms[i].body.rstrip(".") for i in verdict.keep if atoms[i].kind in FORMULAS]
    return formulas, join(atoms, verdict.keep)


@pytest.mark.parametrize("seed", [3, 4])
def test_rules_keep_the_asked_story_and_no_other(seed: int) -> None:
    for made in generator(seed).make(32):
        formulas, text = kept(made.question, made.trace, str(made.answer))
        assert formulas == made.terse.splitlines()
        who = asked_name(made.question)
        assert who in text
        assert not set(people_in(text)) - {who}


def test_rules_follow_the_question_not_the_trace() -> None:
    stories = sheet(1)
    trace = tell(stories, Random(1))
    found = set()
    for place in range(3):
        made = problem(0, stories, [place], trace, Random(1))
        found.add(tuple(kept(made.question, made.trace, str(made.answer))[0]))
    assert len(found) == 3


def link(text: str, words: str = "", question: str = "") -> Link:
    return chain.link(text, Mention.of(words.split(), question))


def test_an_operand_the_question_states_needs_no_source() -> None:
    question = "Ana has 4 pens and buys 3. Ben has 2 pens, and as many rulers."
    ben, ana = link("2 + 2 = 4", "Ben things", question), link("4 + 3 = 7", "Ana pens", question)
    assert leading_to("7", question, {0: ben, 1: ana}) == {1}
    # Not stated: then it must come from somewhere.
    assert leading_to("7", "Ana buys 3.", {0: ben, 1: ana}) == {0, 1}
    # Nothing tells them apart: as before.
    assert leading_to("7", question, {0: link("2 + 2 = 4"), 1: link("4 + 3 = 7")}) == {0, 1}


def test_of_two_sources_the_one_about_the_same_person_counts() -> None:
    question = "Ana and Ben ..."
    links = {
        0: link("2 + 2 = 4", "Ben pens", question),
        1: link("1 + 3 = 4", "Ana rulers", question),
        2: link("4 + 5 = 9", "Ana pens", question),
    }
    assert leading_to("9", question, links) == {1, 2}
    assert leading_to("8", question, links) == {0, 1, 2}, "no result is the answer: all"


def test_names_are_capital_in_the_question_wherever_they_occur() -> None:
    question = "Rose has a pen. The pen costs 2. How many?"
    mention = Mention.of(["Rose", "Pen", "Later"], question)
    assert mention.names == {"rose"}
    other = Mention.of(["Ben"], "Ben")
    assert other_people(mention, other)
    assert not other_people(mention, Mention.of(["rose"], "rose"))
