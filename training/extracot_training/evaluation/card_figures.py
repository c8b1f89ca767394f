"""What an evaluation hands to a budget card: the part of its report that ``publish`` reads.

Stage ``evaluate`` writes it as ``card`` into ``report.json``, stage ``publish`` reads it back.
Knows neither rows nor weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from extracot.figures import AccuracySummary, BaselineCard, RatioSummary
from extracot_training.errors import StageError
from extracot_training.pipeline.records import Count, first_problem

REPORT_FILENAME = "report.json"


class LevelFigures(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """A level's (or the policy's) measured figures. ``n`` counts problems."""

    realised: RatioSummary | None
    accuracy: AccuracySummary
    unclosed_rate: float = Field(ge=0.0, le=1.0)
    n: Count


class CardFigures(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Everything measured that a card holds.

    ``levels`` is keyed by the nominal ratio as text (``"0.2"``). ``tokenizer_hash`` and
    ``weights`` say which checkpoint was measured, where the server's own card told.
    """

    dataset: str
    samples: int = Field(ge=1)
    sampling: dict[str, Any]
    levels: dict[str, LevelFigures]
    policy: LevelFigures | None = None
    baseline: BaselineCard
    tokenizer_hash: str | None = None
    weights: str | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The figures of an evaluation's folder; :class:`StageError` if there are none."""
        path = folder / REPORT_FILENAME
        try:
            report = json.loads(path.read_bytes())
            if not isinstance(report, dict) or "card" not in report:
                raise StageError(f"{path}: has no figures for a card; want a folder of evaluate")
            return cls.model_validate(report["card"])
        except FileNotFoundError as error:
            raise StageError(
                f"{folder}: no {REPORT_FILENAME}; want a finished folder of evaluate"
            ) from error
        except ValidationError as error:
            field, message = first_problem(error)
            raise StageError(f"{path}: field card.{field}: {message}") from error
        except ValueError as error:
            raise StageError(f"{path}: not JSON ({error})") from error
