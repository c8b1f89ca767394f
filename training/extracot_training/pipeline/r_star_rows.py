"""Reads ``r*`` out of a folder of stage ``reference``, for those who only group problems by it.

Knows two fields of its rows and lets the others be.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extracot_training.errors import RowError
from extracot_training.pipeline.records import first_problem, rows_file


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    problem_id: str
    r_star: float = Field(gt=0.0, le=1.0)


def read_r_star(folder: Path) -> dict[str, float]:
    """``problem_id -> r*``. Raises :class:`RowError` naming line and field."""
    path = rows_file(folder)
    found: dict[str, float] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                row = _Row.model_validate_json(line)
            except ValidationError as error:
                field, message = first_problem(error)
                raise RowError(path, number, message, field=field) from error
            found[row.problem_id] = row.r_star
    return found
