"""Problems of a shipped configuration, and the traces that stage ``teach`` makes of them."""

from __future__ import annotations

from pathlib import Path

from extracot_training.config.load import load_config
from extracot_training.config.problems import ProblemsConfig
from extracot_training.config.teach import TeachConfig
from extracot_training.pipeline.records import Problem, Trace, read_rows
from extracot_training.stages.problems.stage import run as problems
from extracot_training.stages.teach.stage import run as teach


def all_kept(name: str, size: int, folder: Path) -> list[Problem]:
    """The problems, of whose own traces none to learn from was left out or judged wrong."""
    config = load_config(
        ProblemsConfig,
        Path(f"training/configs/{name}.yaml"),
        [f"out={folder / 'problems'}", f"sources.0.size={size}"],
    )
    problems(config)
    rows = list(read_rows(folder / "problems", Problem))
    teach(TeachConfig(input=folder / "problems", out=folder / "teach", source="own", samples=1))
    traces = list(read_rows(folder / "teach", Trace))
    assert len(traces) == sum(row.split in ("train", "dev") for row in rows)
    assert all(trace.correct and trace.synthetic for trace in traces)
    return rows
