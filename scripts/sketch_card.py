"""Adds to a budget card what the problems look like that it was measured on.

    python scripts/sketch_card.py server/extracot_server/models/small runs/evaluate/problems

For a checkpoint that was measured before evaluations noted it; the weights and all figures stay as
they are. The folder of problems is what the evaluation read, and ``--split`` the split it asked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from extracot.card import BudgetCard
from extracot.errors import CardError
from extracot.sketch import LEAST_PROBLEMS, PromptSketch
from extracot_training.errors import TrainingError
from extracot_training.pipeline.records import Problem, read_rows


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="sketch_card.py", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("checkpoint", type=Path, help="folder with the budget card")
    parser.add_argument("problems", type=Path, help="folder of stage problems")
    parser.add_argument("--split", default="test", help="split that was asked (default: test)")
    arguments = parser.parse_args()
    try:
        card = BudgetCard.load(arguments.checkpoint)
        rows = read_rows(arguments.problems, Problem)
        sketch = PromptSketch.of(row.question for row in rows if row.split == arguments.split)
    except (CardError, TrainingError) as error:
        print(f"sketch_card.py: {error}", file=sys.stderr)
        return 1
    if sketch is None:
        less = f"fewer than {LEAST_PROBLEMS} problems of split {arguments.split}"
        print(f"sketch_card.py: {arguments.problems} has {less}", file=sys.stderr)
        return 1
    card.model_copy(update={"prompts": sketch}).save(arguments.checkpoint)
    print(f"{arguments.checkpoint}: {sketch.n} problems, {len(sketch.words)} words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
