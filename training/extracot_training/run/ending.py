"""How a run ends: the card with its figures, or why it stays a draft, and a report of it all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from extracot.errors import CardError
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.markdown import counts, table
from extracot_training.pipeline.stage import Manifest
from extracot_training.run.data import Data
from extracot_training.run.options import RunOptions
from extracot_training.run.spending import Configured, rows_told
from extracot_training.stages.publish import stage as publish

REPORT = "report.md"
REFUSED = "card-refused.txt"
MEASURED_REFUSED = 3
PICTURES = ("loss.png", "course.png", "accuracy_tokens.png", "requested_realised.png")


def publish_measured(config: Any) -> int:
    """Stage ``publish`` with the evaluation. Levels that do not increase get no measured card: the
    draft stays, and the reason is kept beside it."""
    note = config.out.parent / REFUSED
    note.unlink(missing_ok=True)
    try:
        outcome = publish.run(config)
    except CardError as error:
        write_atomic(note, f"{error}\n")
        print(f"publish: the card stays a draft, for what was measured has no order: {error}")
        return MEASURED_REFUSED
    print(f"publish: {outcome.status} in {outcome.folder}, with what was measured")
    return 0


def ending(options: RunOptions, steps: Sequence[Configured], data: Data) -> str:
    """Write the report; what is said last."""
    out = options.out
    write_atomic(out / REPORT, "\n".join([*_report(options, steps, data), ""]))
    refused = (out / REFUSED).is_file()
    card = "a draft card (see the report)" if refused or "evaluate" in options.skip else "its card"
    return "\n".join([
        "",
        f"{out / 'published'} has the checkpoint with {card}; the report is {out / REPORT}.",
        "Serve it with:",
        f"  extracot-serve --model {out / 'published'}",
    ])  # fmt: skip


def _report(options: RunOptions, steps: Sequence[Configured], data: Data) -> Iterator[str]:
    out = options.out
    yield f"# {options.served_name}"
    yield ""
    yield f"Base model `{options.model}`, problems `{options.problems}`: {rows_told(data)}."
    yield ""
    yield "## Stages"
    yield ""
    yield from table("step | stage | seconds | what it made | left out", _stages(steps))
    yield ""
    yield f"Each can be run by itself by its configuration in `{out / 'configs'}`."
    yield ""
    yield "## Measured"
    yield ""
    yield from _measured(out, data)
    pictures = [(config.out / name) for _, config in steps for name in PICTURES]
    pictures = [path for path in dict.fromkeys(pictures) if path.is_file()]
    if pictures:
        yield ""
        yield "## Pictures"
        yield ""
        for path in pictures:
            place = path.relative_to(out)
            yield f"![{place}]({place})"
    yield ""
    yield "## Serve it"
    yield ""
    yield f"    extracot-serve --model {out / 'published'}"


def _stages(steps: Sequence[Configured]) -> Iterator[str]:
    for step, config in steps:
        found = Manifest.load(config.out)
        if found is None or found.finished is None:
            continue
        began, ended = map(datetime.fromisoformat, (found.started, found.finished))
        lost = found.counts.get("lost") or {}
        made = {
            name: value for name, value in found.counts.items()
            if isinstance(value, int) and not isinstance(value, bool)
        }  # fmt: skip
        seconds = f"{(ended - began).total_seconds():.0f}"
        yield f"{step.name} | {step.stage} | {seconds} | {counts(made)} | {counts(lost)}"


def _measured(out: Path, data: Data) -> Iterator[str]:
    file = out / "evaluate" / "report.json"
    if not file.is_file():
        yield "Nothing: stage evaluate was skipped, and the card is a draft."
        return
    budgets = json.loads(file.read_text(encoding="utf-8"))["budgets"]
    yield f"{data.judged} problems through the server ({data.sizes[data.judged]} in all):"
    yield ""
    yield from table(
        "budget | accuracy | reasoning tokens",
        (
            f"{name} | {of['accuracy']['mean']:.2f} | {of['tokens']['reasoning']['mean']:.1f}"
            for name, of in budgets.items()
        ),
    )
    if (out / REFUSED).is_file():
        why = (out / REFUSED).read_text(encoding="utf-8").strip()
        yield ""
        yield f"The card is a draft, which claims nothing: {why}."
        yield (
            "A level that takes no more reasoning than the one below it cannot be promised. More "
            "problems, more epochs or fewer levels mend that; publish it anew with "
            f"`extracot-train publish --config {out / 'configs' / 'measured.yaml'}`."
        )
