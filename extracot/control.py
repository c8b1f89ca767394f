"""Levels and their control tokens: spelling, parsing and names, all in this module.

Knows neither tokenizers nor prompts: a token is a string here, and whether a checkpoint knows
it is the budget card's business.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from extracot.errors import ControlTokenError

DEFAULT_RATIOS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""The ratios a checkpoint is trained on unless its recipe says otherwise."""

POLICY_TOKEN = "<COMP_POLICY>"
"""Asks the model to pick a level itself, as the first token of its reply."""

_LEVEL = re.compile(r"<COMP_(100|[1-9][0-9]?)>")


def level_token(ratio: float) -> str:
    """Spell a level: ``0.2`` -> ``<COMP_20>``.

    Raises :class:`ControlTokenError` unless ``ratio`` is a whole percentage from 0.01 to 1.
    """
    allowed = "a level is a ratio of whole percents from 0.01 to 1"
    if isinstance(ratio, bool) or not math.isfinite(ratio):
        raise ControlTokenError(f"{allowed}, not {ratio!r}")
    percent = round(ratio * 100)
    # 0.29 * 100 is 28.999999999999996: equal up to rounding is what "whole" has to mean.
    if not 1 <= percent <= 100 or not math.isclose(ratio * 100, percent, rel_tol=1e-9):
        raise ControlTokenError(f"{allowed}, not {ratio!r}")
    return f"<COMP_{percent}>"


def parse_level_token(token: str) -> float | None:
    """Read a level back: ``<COMP_20>`` -> ``0.2``; ``None`` for anything else."""
    match = _LEVEL.fullmatch(token)
    return int(match[1]) / 100 if match else None


class ControlKind(StrEnum):
    """How a reply's reasoning is asked for; see :class:`Control`."""

    LEVEL = "level"
    POLICY = "policy"
    NATIVE = "native"
    NONE = "none"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Control:
    """What the end of the user turn and the start of the reply say about reasoning.

    ========  ======================  ==================================
    kind      user turn ends in       the reply is prefilled with
    ========  ======================  ==================================
    LEVEL     the level's token       the level's token and an open block
    POLICY    the policy token        nothing: the model picks its level
    NATIVE    nothing                 nothing
    NONE      nothing                 a closed, empty block
    OPEN      nothing                 an open block (cap mode)
    ========  ======================  ==================================

    Raises :class:`ControlTokenError` if ``token`` is missing for LEVEL or POLICY, or given for
    another kind.
    """

    kind: ControlKind
    token: str | None = None

    def __post_init__(self) -> None:
        needs_token = self.kind in (ControlKind.LEVEL, ControlKind.POLICY)
        if needs_token and not self.token:
            raise ControlTokenError(f"control {self.kind.value!r} needs a token")
        if not needs_token and self.token is not None:
            raise ControlTokenError(f"control {self.kind.value!r} takes no token")

    @classmethod
    def level(cls, token: str) -> Self:
        """A fixed level, by its token (levels need not be spelled as ``level_token`` does)."""
        return cls(ControlKind.LEVEL, token)

    @classmethod
    def policy(cls, token: str = POLICY_TOKEN) -> Self:
        """The model picks."""
        return cls(ControlKind.POLICY, token)

    @classmethod
    def native(cls) -> Self:
        """The model reasons as it likes."""
        return cls(ControlKind.NATIVE)

    @classmethod
    def none(cls) -> Self:
        """No reasoning at all."""
        return cls(ControlKind.NONE)

    @classmethod
    def open(cls) -> Self:
        """Reasoning without a level: what a cap is put on."""
        return cls(ControlKind.OPEN)
