"""Which prompts the bundled model's card speaks of: those like its problems, and no others.

The sets are real ones: problems of the generator that it was not measured on; other families, other
numbers of stories, ordinary questions, prose and code.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from extracot.card import BudgetCard
from extracot.sketch import PromptSketch, words_of
from extracot_server.model_registry.resolving import SHIPPED
from extracot_training.config.load import load_config
from extracot_training.config.problems import GeneratorSource, ProblemsConfig
from extracot_training.synthetic import Generator

ROOT = Path(__file__).parents[2]
N = 200


def generated(part: int, n: int, **changes: object) -> list[str]:
    """Problems of a source of what the checkpoint was measured on, drawn anew."""
    path = ROOT / "training" / "configs" / "problems-small-test.yaml"
    source = load_config(ProblemsConfig, path).sources[part]
    assert isinstance(source, GeneratorSource)
    values = source.model_dump() | {"seed": 77} | changes
    known = {name: values[name] for name in Generator.__dataclass_fields__}
    return [made.question for made in Generator(**known).make(n)]


def pieces(pattern: str, n: int) -> list[str]:
    """Parts of our own files, as long as the card's problems, as one would paste them."""
    files = sorted(ROOT.glob(pattern))
    texts = [file.read_text(encoding="utf-8") for file in files]
    draw = random.Random(5)
    longest = [text for text in texts if len(text) > 1000]
    starts = [(text, draw.randrange(len(text) - 500)) for text in draw.choices(longest, k=n)]
    return [text[start : start + draw.randint(280, 440)] for text, start in starts]


def unlike() -> list[str]:
    ordinary = (ROOT / "tests/data/other_prompts.txt").read_text(encoding="utf-8").splitlines()
    others = (
        generated(1, 40) + generated(0, 40, threads=1, asked=(1,)) + generated(0, 10, threads=4)
    )
    return ordinary + others + pieces("docs/*.md", 25) + pieces("extracot/*.py", 25)


@pytest.fixture(scope="module")
def sketch() -> PromptSketch:
    found = BudgetCard.load(SHIPPED["small"]).prompts
    assert found is not None
    return found


def test_the_cards_own_kind_of_problem_keeps_its_saving(sketch: PromptSketch) -> None:
    like = generated(0, N)
    assert len(set(like)) == N
    assert sum(map(sketch.covers, like)) >= 0.95 * N


def test_other_prompts_claim_none(sketch: PromptSketch) -> None:
    prompts = unlike()
    assert len(prompts) == N
    assert sum(map(sketch.covers, prompts)) <= 0.05 * N


def test_length_and_words_each_hold_back_what_the_other_lets_through(sketch: PromptSketch) -> None:
    single, words = generated(0, 40, threads=1, asked=(1,)), set(sketch.words)
    assert all(words.issuperset(words_of(question)) for question in single)
    as_long = [
        text for text in unlike() if sketch.min_characters <= len(text) <= sketch.max_characters
    ]
    assert len(as_long) >= 40
    assert not any(map(sketch.covers, single))
    assert sum(map(sketch.covers, as_long)) <= 0.1 * len(as_long)


@pytest.mark.parametrize("training", [5, 6])
def test_a_sketch_of_other_draws_covers_the_same_kind(training: int) -> None:
    made = PromptSketch.of(generated(0, 500, seed=training))
    assert made is not None
    assert sum(map(made.covers, generated(0, N))) >= 0.95 * N
    assert sum(map(made.covers, unlike())) <= 0.05 * N
