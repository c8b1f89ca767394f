"""The part of an evaluation's report that ``publish`` reads for the budget card.

Stage ``evaluate`` writes it as ``card`` into ``report.json``, stage ``publish`` reads it back.
Knows no weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extracot.figures import AccuracySummary, BaselineBin, BaselineCard, RatioSummary, TokenSummary
from extracot.sketch import PromptSketch
from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.rows import EvalRow
from extracot_training.evaluation.table import AUTO, FULL, NATIVE, Table, spread
from extracot_training.pipeline.records import Count, first_problem
from extracot_training.pipeline.statistics import percentile

if TYPE_CHECKING:
    from extracot_training.evaluation.server import Server

REPORT_FILENAME = "report.json"
LEAST_IN_BIN = 30
"""A bin of prompt lengths with fewer replies is joined with its neighbour."""


class LevelFigures(BaseModel):
    """A level's (or the policy's) measured figures. ``n`` counts problems."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    realised: RatioSummary | None
    accuracy: AccuracySummary
    unclosed_rate: float = Field(ge=0.0, le=1.0)
    n: Count


class CardFigures(BaseModel):
    """Everything measured that a card holds.

    ``levels`` is keyed by the nominal ratio as text (``"0.2"``). ``tokenizer_hash`` and
    ``weights`` say which checkpoint was measured, where the server's own card told.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: str
    samples: int = Field(ge=1)
    sampling: dict[str, Any]
    levels: dict[str, LevelFigures]
    policy: LevelFigures | None = None
    baseline: BaselineCard
    prompts: PromptSketch | None = None
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


def card_of(
    figures: Mapping[str, Any],
    tables: Mapping[str, Table],
    config: EvaluateConfig,
    server: Server,
    questions: Iterable[str] = (),
) -> dict[str, Any]:
    """:class:`CardFigures` as plain data. Levels only where levels were asked for by name."""
    budgets = figures["budgets"]
    by_level = config.asking == "levels" and server.mode == "token"
    return CardFigures(
        dataset=figures["dataset"],
        samples=config.samples,
        sampling=figures["sampling"],
        levels={
            name: _level(name, found)
            for name, found in budgets.items()
            if by_level and name[0].isdigit()
        },
        policy=_level(AUTO, budgets[AUTO]) if AUTO in budgets else None,
        baseline=BaselineCard(
            native=_bins(tables.get(NATIVE), config.prompt_bins),
            full=_bins(tables.get(FULL), config.prompt_bins) if by_level else [],
        ),
        prompts=PromptSketch.of(questions),
        tokenizer_hash=server.tokenizer_hash,
        weights=server.weights,
    ).model_dump(mode="json")


def _level(name: str, found: Mapping[str, Any]) -> LevelFigures:
    accuracy = found["accuracy"]
    return LevelFigures(
        realised=_realised(name, found),
        accuracy=AccuracySummary(
            mean=accuracy["mean"],
            low=min(accuracy["low"], accuracy["mean"]),
            high=max(accuracy["high"], accuracy["mean"]),
        ),
        unclosed_rate=found["unclosed_rate"],
        n=found["n"],
    )


def _realised(name: str, found: Mapping[str, Any]) -> RatioSummary | None:
    if name == FULL:
        return RatioSummary(mean=1.0, p10=1.0, p90=1.0)
    against = found["against"].get(FULL)
    if against is None or against["ratio_of_sums"] is None or against["p10"] is None:
        return None
    mean = against["ratio_of_sums"]["mean"]
    if mean <= 0:
        return None
    return RatioSummary(mean=mean, p10=against["p10"], p90=against["p90"])


def _bins(table: Table | None, limits: Sequence[int] | None) -> list[BaselineBin]:
    """Replies by prompt length. Without ``limits``: terciles, where there are enough replies."""
    rows = [] if table is None else table.flat()
    if not rows:
        return []
    least = 1
    if limits is None:
        lengths = [row.prompt_tokens for row in rows]
        limits = sorted({math.ceil(percentile(lengths, share)) for share in (1 / 3, 2 / 3)} - {0})
        least = LEAST_IN_BIN
    groups: list[tuple[int | None, list[EvalRow]]] = []
    waiting, held = sorted(rows, key=lambda row: row.prompt_tokens), list[EvalRow]()
    for limit in limits:
        cut = sum(row.prompt_tokens <= limit for row in waiting)
        held, waiting = held + waiting[:cut], waiting[cut:]
        if len(held) >= least:
            groups.append((limit, held))
            held = []
    held += waiting
    if groups and len(held) < least:
        held = groups.pop()[1] + held
    groups.append((None, held))
    return [_bin(limit, members) for limit, members in groups]


def _bin(limit: int | None, rows: Sequence[EvalRow]) -> BaselineBin:
    return BaselineBin(
        max_prompt_tokens=limit,
        n=len(rows),
        reasoning=TokenSummary(**spread([row.reasoning_tokens or 0 for row in rows])),
        answer=TokenSummary(**spread([row.answer_tokens or 0 for row in rows])),
    )
