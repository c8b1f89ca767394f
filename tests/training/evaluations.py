"""Settings and problems that the tests of stage evaluate share."""

from __future__ import annotations

from typing import Any

from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.pipeline.records import Problem


def config(**changes: Any) -> EvaluateConfig:
    base: dict[str, Any] = {
        "input": "in",
        "out": "out",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "m",
        "budgets": [0.2, 1.0, "auto", "native"],
        "concurrency": 2,
        "retries": 1,
        "backoff_s": 0.0,
        "resamples": 200,
    }
    return EvaluateConfig.model_validate(base | changes)


def problem(number: int, **changes: Any) -> Problem:
    base: dict[str, Any] = {
        "id": f"p{number}",
        "question": f"What is {number} + 1?",
        "answer": str(number + 1),
        "source": "sums",
        "license": "MIT",
        "split": "test",
        "family": "sums",
        "steps": 1 + number // 2,
    }
    return Problem.model_validate(base | changes)
