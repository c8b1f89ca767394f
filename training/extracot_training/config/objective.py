"""Settings of CHRPO's objective, what a right reply's level is worth, and the check that no label
pays which the reply does not keep. Pure numbers; the rewards themselves are ``chrpo.reward``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from extracot_training.pipeline.settings import Section

Kind = Literal["chrpo", "chrpo_capped", "length_penalty", "degrpo"]
# Settings that only chrpo_capped has: a configuration of kind chrpo that names one is an older one.
CAPPED = frozenset({"mode", "ctrl", "beta", "kappa", "slope"})
GRID_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
GRID_RATIOS = (*GRID_LEVELS, 1.1, 1.25, 1.5, 2.0, 4.0)


class Objective(Section):
    """What is rewarded, and how credit reaches tokens. The formulas are in ``chrpo.reward``,
    ``chrpo.advantage`` and ``chrpo.stratified``; ``kind`` picks the method, the rest its
    coefficients. ``chrpo`` with a setting of ``chrpo_capped`` is read as that, which it was."""

    kind: Kind = Field(
        "chrpo",
        description="chrpo; chrpo_capped (weights by hand); or, to compare: length_penalty (plain "
        "GRPO), degrpo (as Thinkless)",
    )
    price: float = Field(
        0.4, ge=0, le=1, description="chrpo: accuracy that level 1.0 costs, at the start (lambda)"
    )
    price_rate: float = Field(
        0.2, ge=0, description="chrpo: how fast the price follows the constraint; 0: it stays"
    )
    price_most: float = Field(1.0, ge=0, le=1, description="chrpo: the price is never higher")
    slack: float = Field(
        0.02, ge=0, lt=1, description="chrpo: accuracy that may be given up (epsilon)"
    )
    against: Literal["whole", "best"] = Field(
        "whole", description="chrpo: of level 1.0, or of the level that does best"
    )
    entropy: float = Field(
        0.01, ge=0, description="chrpo: worth of a nat of entropy of the choice; keeps it open"
    )
    choice_weight: float = Field(1.0, gt=0, description="chrpo: of the level token's advantage")
    mode: bool = Field(True, description="chrpo_capped: the ratio-mode term of the main reward")
    ctrl: bool = Field(True, description="chrpo_capped: the level token's own reward")
    beta: float = Field(0.5, ge=0, le=0.5, description="chrpo_capped: weight of the token's own")
    kappa: float = Field(0.2, gt=0, le=0.5, description="chrpo_capped: most that smaller earns")
    slope: float = Field(0.25, ge=0, description="chrpo_capped: what right below r* earns")
    calibration: float = Field(0.1, ge=0, description="chrpo: weight of length as promised")
    tolerance: float = Field(0.1, gt=0, description="chrpo: difference of ratio that is fine")
    repetition: float = Field(0.2, ge=0, description="chrpo: cost of a reply that repeats itself")
    ngram: int = Field(8, ge=2, description="tokens that count as repeated when seen again")
    length_weight: float = Field(0.2, ge=0, lt=1, description="length_penalty: what L_ref costs")
    level_weight: float = Field(
        0.2, ge=0, lt=1, description="degrpo: cost of level 1.0 for a correct answer"
    )
    scale: Literal["none", "group"] = Field(
        "none",
        description="group: divide advantages by their group's deviation; the cap then has no unit",
    )
    control_weight: float | None = Field(
        None,
        gt=0,
        description="degrpo: weight of the level token's loss beside the mean of the others'",
    )

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """A whole configuration as this version writes it names everything, the price as well."""
        if not isinstance(data, dict) or data.get("kind", "chrpo") != "chrpo" or "price" in data:
            return data
        return {**data, "kind": "chrpo_capped"} if CAPPED & data.keys() else data

    @model_validator(mode="after")
    def _holds(self) -> Self:
        capped = self.kind == "chrpo_capped"
        least = 1 - self.calibration - self.repetition - (self.kappa / 2 if capped else 0)
        if self.own and least <= 0:
            cap = "kappa/2 - " if capped else ""
            raise ValueError(
                f"a correct answer could earn {least:g}, no more than a wrong one: want "
                f"1 - calibration - {cap}repetition > 0"
            )
        if (self.kind == "degrpo") != (self.control_weight is not None):
            raise ValueError("control_weight goes with kind degrpo, and degrpo wants it")
        if self.price > self.price_most:
            raise ValueError(f"price {self.price:g}: want at most price_most, {self.price_most:g}")
        if self.own:
            self._check_labels()
        return self

    @property
    def own(self) -> bool:
        """Whether it is a kind of ours; the others, which promise nothing, are to compare."""
        return self.kind in ("chrpo", "chrpo_capped")

    def _check_labels(self) -> None:
        for needed in GRID_LEVELS if self.kind == "chrpo_capped" else (1.0,):
            bought = bought_label(lambda level, ratio: self.worth(level, ratio, needed))  # noqa: B023
            if bought is not None:
                level, honest, ratio = bought
                raise ValueError(
                    f"a right reply of ratio {ratio:g} earns more under level {level:g} than under "
                    f"{honest:g} where a problem needs {needed:g}: raise calibration"
                )

    def worth(self, level: float, ratio: float, needed: float) -> float:
        """What the level token of a right reply earns, with all that it has of the main reward,
        at the highest price."""
        if self.kind == "chrpo":
            return 1.0 - self.price_most * spent(level, ratio)
        choice = mode(spent(level, ratio), needed, self)
        own = self.beta * choice if self.ctrl else 0.0
        return 1.0 + calibration(ratio, level, self) + (choice if self.mode else 0.0) + own


def bought_label(
    worth: Callable[[float, float], float],
    levels: Sequence[float] = GRID_LEVELS,
    ratios: Sequence[float] = GRID_RATIOS,
) -> tuple[float, float, float] | None:
    """(level, honest level, ratio) where a right reply that is as long as the honest level says,
    or longer, earns more under the smaller ``level``; ``None`` where there is no such place.

    ``worth`` maps (level, ratio) to what the level token earns.
    """
    for ratio in ratios:
        for honest in levels:
            for level in levels:
                longer = level < honest <= ratio
                if longer and worth(level, ratio) > worth(honest, ratio) + 1e-9:
                    return level, honest, ratio
    return None


def spent(level: float, ratio: float) -> float:
    """The level that a reply has to pay for: what it promised, or what it took if that is more.

    A whole level is the most; so a label below a reply's length pays nothing.

    >>> spent(0.2, 0.15), spent(0.2, 0.7), spent(0.2, 3.0)
    (0.2, 0.7, 1.0)
    """
    return max(level, min(ratio, 1.0))


def huber(x: float) -> float:
    """Huber's loss with delta 1: square near 0, straight beyond.

    >>> huber(0.5), huber(1.0), huber(-3.0)
    (0.125, 0.5, 2.5)
    """
    size = abs(x)
    return 0.5 * size * size if size <= 1.0 else size - 0.5


def calibration(ratio: float, level: float, objective: Objective) -> float:
    """From ``[calibration]`` (as long as promised) down to minus that (off by 2.5 tolerances).

    >>> [round(calibration(r, 0.4, Objective()), 3) for r in (0.4, 0.5, 0.6, 0.9)]
    [0.1, 0.05, -0.05, -0.1]
    """
    off = huber((ratio - level) / objective.tolerance)
    return objective.calibration * (1.0 - min(2.0, off))


def mode(level: float, needed: float, objective: Objective) -> float:
    """Between ``-[kappa]/2`` and ``[kappa]/2``: more for a level below r*, less above it.

    >>> [round(mode(c, 0.6, Objective()), 3) for c in (0.2, 0.4, 0.6, 0.8, 1.0)]
    [0.1, 0.05, 0.0, -0.05, -0.1]
    """
    cap = objective.kappa / 2
    return max(-cap, min(cap, objective.slope * (needed - level)))
