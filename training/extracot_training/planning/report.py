"""A plan as text. Knows costs and rows, not how they were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extracot_training.config.plan import Assumptions
from extracot_training.planning.costs import Cost
from extracot_training.planning.ledger import Rows
from extracot_training.planning.shape import GIB

FORMULAS = (
    "training: operations a weight and token are 6 (2 forward, 4 backward), and 2 more where "
    "activations are recomputed; chrpo reads every token once more, and once by the start where "
    "kl is not 0",
    "memory of a training: weights, gradients, two moments of AdamW; activations of one pass at "
    "the longest row allowed; logits in float32 with their gradient (the fused loss of sft needs "
    "less)",
    "generation: replies x mean tokens / tokens per second",
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage: its folder's name, what it makes, what it costs. ``done``: it is there already;
    ``note``: why it could not start on this machine."""

    name: str
    stage: str
    rows: Rows | None
    cost: Cost
    done: bool = False
    note: str | None = None


def report_of(plan: Sequence[Planned], assume: Assumptions) -> str:
    """A table, the memory of each training, and what was taken for granted."""
    wide = max([len("stage"), *(len(one.name) for one in plan)])
    lines = [f"{'stage':{wide}}  {'rows out':>9}  {'tokens':>8}  {'GPUs':>4}  "
             f"{'GiB each':>8}  {'hours':>6}"]  # fmt: skip
    lines += [_line(one, wide) for one in plan]
    hours = sum(one.cost.hours for one in plan)
    on_gpus = sum(one.cost.hours * one.cost.gpus for one in plan)
    spent = (
        f", {on_gpus:.1f} GPU hours of {assume.gpu}, "
        f"{on_gpus * assume.dollars_per_hour:.0f} dollars at {assume.dollars_per_hour:g} an hour"
    )
    lines += [
        "",
        f"{hours:.1f} hours{spent if on_gpus else ''}",
        *_memory(plan, assume),
        *(f"{one.name}: cannot start here: {one.note}" for one in plan if one.note),
        "",
        "formulas:",
        *(f"  {formula}" for formula in FORMULAS),
        "assumed (--assume KEY=VALUE):",
        *(f"  {name}={getattr(assume, name)}: {field.description}"
          for name, field in type(assume).model_fields.items()
          if getattr(assume, name) is not None),
    ]  # fmt: skip
    return "\n".join(lines)


def figures_of(plan: Sequence[Planned], assume: Assumptions) -> dict[str, object]:
    """The same as plain JSON."""
    return {
        "stages": [
            {
                "name": one.name, "stage": one.stage, "done": one.done, "note": one.note,
                "rows": None if one.rows is None else round(one.rows.count()),
                "known": one.rows is not None and one.rows.known,
                "tokens": round(one.cost.tokens), "hours": one.cost.hours, "gpus": one.cost.gpus,
                "memory_gib": {name: size / GIB for name, size in one.cost.memory.items()},
            }
            for one in plan
        ],
        "hours": sum(one.cost.hours for one in plan),
        "gpu_hours": sum(one.cost.hours * one.cost.gpus for one in plan),
        "assumed": assume.model_dump(),
    }  # fmt: skip


def _line(one: Planned, wide: int) -> str:
    rows = "" if one.rows is None else f"{one.rows.count():,.0f}"
    tokens = _short(one.cost.tokens) if one.cost.tokens else ""
    memory = f"{one.cost.gib:.0f}" if one.cost.memory else ""
    hours = "done" if one.done else f"{one.cost.hours:.2f}"
    gpus = str(one.cost.gpus) if one.cost.gpus else "CPU"
    return f"{one.name:{wide}}  {rows:>9}  {tokens:>8}  {gpus:>4}  {memory:>8}  {hours:>6}"


def _memory(plan: Sequence[Planned], assume: Assumptions) -> list[str]:
    lines = []
    for one in plan:
        if one.cost.memory and one.cost.gpus:
            parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in one.cost.memory.items())
            over = (
                ""
                if one.cost.gib <= assume.gpu_gib
                else (f"; more than the {assume.gpu_gib:g} GiB of a GPU")
            )
            lines.append(f"{one.name}: {one.cost.gib:.0f} GiB on each GPU ({parts}){over}")
    return lines


def _short(number: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:.0f}"
