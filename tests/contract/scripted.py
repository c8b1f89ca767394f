"""Problems whose golds the scripted engine knows, and its server with a draft or a full card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extracot.card import BudgetCard
from extracot_server.engine.scripted.engine import ScriptedBehaviour, scripted_card
from extracot_server.engine.scripted.model import digest
from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.pipeline.records import Problem, write_rows
from tests.server.live import Live, serve

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
WRONG_EVERY = 4


def problems(folder: Path, count: int) -> Path:
    """A folder of problems; every fourth has a gold that the engine does not answer."""
    rows = []
    for number in range(count):
        question = f"What is {number} times {number + 3}?"
        answer = digest(f"{INSTRUCTION}\n{question}", "answer") % 1000
        rows.append(
            Problem(
                id=f"p{number}",
                question=question,
                answer=str(answer + (1 if number % WRONG_EVERY == 0 else 0)),
                source="scripted",
                license="none",
                split="test" if number else "train",
                family="even" if number % 2 == 0 else "odd",
                steps=2 + number % 3,
                synthetic=True,
            )
        )
    write_rows(folder / "rows.jsonl", rows)
    return folder


def draft(card: BudgetCard) -> BudgetCard:
    """The card as it is before an evaluation: nothing measured."""
    nothing = {"realised": None, "accuracy": None, "unclosed_rate": None, "n": None}
    levels = [level.model_copy(update=nothing) for level in card.levels]
    return card.model_copy(update={"levels": levels, "baseline": None, "sampling": {}})


@contextmanager
def server(
    folder: Path,
    behaviour: ScriptedBehaviour | None = None,
    *,
    calibrated: bool = False,
    settings: dict[str, Any] | None = None,
) -> Iterator[Live]:
    """The real app on the scripted engine in token mode."""
    card = scripted_card()
    folder.mkdir(parents=True, exist_ok=True)
    path = (card if calibrated else draft(card)).save(folder)
    with serve(behaviour, card=str(path), **(settings or {})) as live:
        yield live


def config(input: Path, url: str, **changes: Any) -> EvaluateConfig:
    base: dict[str, Any] = {
        "input": input,
        "out": input.parent / "evaluate",
        "base_url": f"{url}/v1",
        "model": "scripted",
        "samples": 2,
        "sampling": {"temperature": 0.7, "max_tokens": 600},
        "concurrency": 4,
        "retries": 1,
        "backoff_s": 0.0,
        "resamples": 200,
    }
    return EvaluateConfig.model_validate(base | changes)
