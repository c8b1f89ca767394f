"""Whether a shortened trace fits its level: as long as the level says, and with every equation that
the answer takes.

A level that a trace is too short for teaches either that its length means nothing, or to answer
without the calculation. Pure: texts in, a verdict out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from extracot_training.config.mix import FitSettings
from extracot_training.policy.mixed_rows import MixedRow

_NUMBER = r"-?(?:\d[\d,]*\d|\d)(?:\.\d+)?"
_NUMBERS = re.compile(_NUMBER)
# What stands left of an equals sign, and the number right of it.
_EQUATION = re.compile(rf"(?P<left>[^=\n]*)=\s*\\?\$?\s*(?P<result>{_NUMBER})")
LENGTH, EQUATIONS = "another length", "an equation is missing"


def misfit(row: MixedRow, text: str, full: str, answer: str, fit: FitSettings) -> str | None:
    """Why ``row``, whose reasoning is ``text``, does not fit its level; ``None`` where it does.
    Whole traces always do."""
    if row.level is None or row.level == 1.0:
        return None
    realised = row.realised
    if fit.within is not None and realised is not None and abs(realised - row.level) > fit.within:
        return LENGTH
    if fit.equations and not needed_results(full, answer) <= set(_calculated(text)):
        return EQUATIONS
    return None


def needed_results(full: str, answer: str) -> set[str]:
    """Results of equations that lead to ``answer``, from its own back to those that no equation
    makes; of equal results the last counts.

    >>> sorted(needed_results("3 * 4 = 12. Also 5 + 5 = 10. Then 12 + 2 = 14.", "14"))
    ['12', '14']
    """
    equations = [(set(_numbers(one["left"])), _plain(one["result"]))
                 for one in _EQUATION.finditer(full)]  # fmt: skip
    wanted, needed = set(_numbers(answer)), set[str]()
    for left, result in reversed(equations):
        if result in wanted:
            wanted = (wanted - {result}) | left
            needed.add(result)
    return needed


def _calculated(text: str) -> Iterator[str]:
    """Numbers of equations, on either side: a number told without one is no calculation."""
    for one in _EQUATION.finditer(text):
        yield from _numbers(one["left"])
        yield _plain(one["result"])


def _numbers(text: str) -> Iterator[str]:
    return map(_plain, _NUMBERS.findall(text))


def _plain(number: str) -> str:
    """One spelling: no commas, no zeros behind a point; the sign may be an operator's."""
    bare = number.replace(",", "").lstrip("-")
    return bare.rstrip("0").rstrip(".") if "." in bare else bare
