"""The rewards of a rollout, and nothing else: pure functions of plain numbers.

After CHRPO (Extra-CoT, arXiv 2602.08324), whose code and coefficients were never released; this is
our instantiation. A rollout gets two rewards. ``main`` is earned by every token of it, ``ctrl`` by
its level token alone, so that the choice of a level has a short credit path of its own.

With c the chosen level, y whether the answer is right, r* the level the problem needs, r = L/L_ref
the realised ratio, x+ = max(x, 0), and the coefficients of ``Objective`` in brackets::

    invalid   main = -1                                                ctrl = -1
    y = 1     main = 1 + calibration + mode - [repetition] * repeated  ctrl = mode
    y = 0     main = -(r* - c)+                                        ctrl = -(r* - c)+ - [kappa]

    calibration = [calibration] * (1 - min(2, huber((r - c) / [tolerance])))
    mode        = clip([slope] * (r* - c), -[kappa]/2, [kappa]/2)

Which constraint of the paper each term keeps:

- *calibration* (Huber budget calibration): a correct reply is as long as its level says. Wrong
  replies have no such term, so length never pays without a right answer.
- *mode* (asymmetric ratio mode): of two correct levels the smaller earns more, by at most kappa.
- *-(r* - c)+*: to be wrong below what the problem needs costs, the more the further below; to be
  wrong above costs nothing more. So where the model fails, it is led to a larger level
  (lambda_under > lambda_over).
- *repetition* (rationale integrity), and -1 for what is no reply at all.

Knows no model, tokenizer or trainer.
"""

from __future__ import annotations

from dataclasses import dataclass

from extracot_training.config.chrpo import Objective

INVALID = -1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a rollout came to. ``level`` is the chosen one (``None``: none was); ``valid`` says that
    there is a level, a closed think block and a boxed answer; ``ratio`` is reasoning tokens over
    L_ref; ``repeated`` is the share of the reasoning that repeats itself, 0 to 1."""

    level: float | None
    valid: bool
    correct: bool
    ratio: float
    repeated: float = 0.0


@dataclass(frozen=True, slots=True)
class Reward:
    """``main`` for every token, ``ctrl`` for the level token; the other fields add up to ``main``
    and are there to be logged."""

    main: float
    ctrl: float
    accuracy: float = 0.0
    calibration: float = 0.0
    mode: float = 0.0
    repetition: float = 0.0
    under: float = 0.0
    length: float = 0.0
    invalid: float = 0.0


def reward(result: Result, needed: float, objective: Objective) -> Reward:
    """The reward of one rollout of a problem that needs level ``needed`` (r*).

    With ``objective.kind`` ``length_penalty`` or ``degrpo`` it is the reward of that method.

    >>> paper = Objective()
    >>> right = Result(level=0.2, valid=True, correct=True, ratio=0.2)
    >>> reward(right, 0.2, paper).main  # right, as long as promised, at the level it needs
    1.1
    >>> reward(Result(1.0, True, True, 1.0), 0.2, paper).main  # right at a level too high
    1.0
    >>> reward(Result(0.2, True, False, 0.2), 1.0, paper).main  # wrong far below r*
    -0.8
    >>> reward(Result(1.0, True, False, 1.0), 0.2, paper).main  # wrong above r*
    0.0
    """
    if not result.valid or result.level is None:
        return Reward(main=INVALID, ctrl=INVALID, invalid=INVALID)
    match objective.kind:
        case "chrpo":
            return _chrpo(result, result.level, needed, objective)
        case "length_penalty":
            return _length_penalty(result, objective)
        case "degrpo":
            return _degrpo(result, result.level, objective)


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


def repeated_share(ids: list[int], ngram: int) -> float:
    """Share of the n-grams of ``ids`` that occurred before; 0 for fewer than two of them.

    >>> repeated_share([1, 2, 3, 1, 2, 3, 1, 2], 3)  # 123 231 312 123 231 312: half are old
    0.5
    """
    seen = [tuple(ids[at : at + ngram]) for at in range(len(ids) - ngram + 1)]
    return 1.0 - len(set(seen)) / len(seen) if len(seen) > 1 else 0.0


def _chrpo(result: Result, level: float, needed: float, objective: Objective) -> Reward:
    under = min(level - needed, 0.0)  # -(r* - c)+
    if not result.correct:
        main = under if objective.mode else 0.0
        return Reward(main=main, ctrl=under - objective.kappa, under=main)
    choice = mode(level, needed, objective)
    in_main = choice if objective.mode else 0.0
    fit = calibration(result.ratio, level, objective)
    repetition = -objective.repetition * result.repeated
    return Reward(
        main=1.0 + fit + in_main + repetition,
        ctrl=choice,
        accuracy=1.0,
        calibration=fit,
        mode=in_main,
        repetition=repetition,
    )


def _length_penalty(result: Result, objective: Objective) -> Reward:
    """Plain GRPO: ``y - [length_weight] * r``, whatever the level and the answer.

    A wrong answer gains by being shorter here: that is what CHRPO is held against.
    """
    right, length = float(result.correct), -objective.length_weight * result.ratio
    return Reward(right + length, 0.0, accuracy=right, length=length)


def _degrpo(result: Result, level: float, objective: Objective) -> Reward:
    """As Thinkless (arXiv 2505.13379) with two modes: a right answer is worth less in the longer
    one, a wrong one -1: ``1 - [level_weight] * c`` or ``-1``."""
    if not result.correct:
        return Reward(INVALID, 0.0, under=INVALID)
    cost = -objective.level_weight * level
    return Reward(1.0 + cost, 0.0, accuracy=1.0, mode=cost)
