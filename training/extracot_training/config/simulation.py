"""Settings of ``chrpo --simulate``: a bandit with the objective's own code."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from extracot_training.pipeline.settings import Section

Chance = Annotated[float, Field(ge=0.0, le=1.0)]


class SimulatedKind(Section):
    """One kind of problem: how likely a reply is right at each level."""

    right: tuple[Chance, ...] = Field(min_length=1, description="by ascending level")
    share: float = Field(1.0, gt=0, description="of the problems, beside the other kinds'")
    needs: float | None = Field(None, gt=0, le=1, description="r*; null: by `right`")


def needing(level: float) -> SimulatedKind:
    """Right at 0.95 from ``level`` on, at 0.15 below; of levels 0.2 to 1.0."""
    levels = (0.2, 0.4, 0.6, 0.8, 1.0)
    return SimulatedKind(right=tuple(0.95 if one >= level - 1e-9 else 0.15 for one in levels))


class SimulationSettings(Section):
    """The world in which an objective is tried. By default three kinds that need 0.2, 0.4, 0.6."""

    levels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.2, 0.4, 0.6, 0.8, 1.0), min_length=2, description="ascending, the last is 1.0"
    )
    kinds: dict[str, SimulatedKind] = Field(
        default_factory=lambda: {f"needs {level:g}": needing(level) for level in (0.2, 0.4, 0.6)},
        min_length=1,
        description="name -> {right: [...], share: 1}",
    )
    spread: float = Field(0.05, ge=0, description="deviation of a reply's ratio from its level's")
    start: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="the choice at the start, a weight per level; null: all alike"
    )
    shared: float = Field(
        0.5, ge=0, le=1, description="part of a step that goes to all kinds, not to one's own"
    )
    learning_rate: float = Field(0.1, gt=0, description="Adam's, of the choice's logits")
    seeds: int = Field(3, ge=1, description="runs; means of them are told")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.levels) != sorted(set(self.levels)) or self.levels[-1] != 1.0:
            raise ValueError("levels: want them increasing, none twice, and 1.0 as the last")
        for name, kind in self.kinds.items():
            if len(kind.right) != len(self.levels):
                raise ValueError(f"kinds.{name}.right: want {len(self.levels)}, one per level")
        if self.start is not None and len(self.start) != len(self.levels):
            raise ValueError(f"start: want {len(self.levels)}, one per level")
        return self

    def needed(self, kind: SimulatedKind, delta: float) -> float:
        """r* of a kind: the smallest level within ``delta`` of its best."""
        if kind.needs is not None:
            return kind.needs
        best = max(kind.right)
        return next(level for level, right in zip(self.levels, kind.right, strict=True)
                    if right >= best - delta)  # fmt: skip
