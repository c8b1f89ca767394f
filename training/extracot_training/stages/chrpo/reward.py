"""The rewards of a rollout, and nothing else: pure functions of plain numbers.

After CHRPO (Extra-CoT, arXiv 2602.08324), whose code and coefficients were never released; this is
our instantiation. A rollout gets two rewards. ``main`` is earned by every token but the level
token, ``ctrl`` by the level token alone (with ``chrpo_capped``: beside ``main``), so that the
choice of a level has a short credit path of its own.

With c the chosen level, y whether the answer is right, r* the level the problem needs, r = L/L_ref
the metered ratio, s = max(c, min(r, 1)) what was spent, x+ = max(x, 0), the coefficients of
``Objective`` in brackets, and lambda the price of level 1.0 as it is at that step::

    chrpo     invalid   main = -1                                         ctrl = -1
              y = 1     main = 1 + calibration - [repetition] * repeated  ctrl = 1 - lambda * s
              y = 0     main = 0                                          ctrl = - lambda * s

    chrpo_capped        (the method's earlier form; an ablation)
              invalid   main = -1                                         ctrl = -1
              y = 1     main = 1 + calibration + mode - [repetition] * repeated    ctrl = mode
              y = 0     main = -(r* - c)+                          ctrl = -(r* - c)+ - [kappa]

    calibration = [calibration] * (1 - min(2, huber((r - c) / [tolerance])))
    mode        = clip([slope] * (r* - s), -[kappa]/2, [kappa]/2)

Which constraint of the paper each term keeps:

- *calibration* (Huber budget calibration): a correct reply is as long as its level says. Wrong
  replies have no such term, so length never pays without a right answer.
- *lambda * s*: tokens have a price, the same for right and wrong replies, and only the choice pays
  it: no other token gains by a shorter reply. lambda is a multiplier: accuracy stays within
  [slack] of level 1.0 (:mod:`extracot_training.stages.chrpo.controller`).
- *s*, not c, is paid for: a label that the reply does not keep buys nothing.
- *mode*, *-(r* - c)+* (capped): of two correct levels the smaller earns more, by at most kappa; to
  be wrong below what the problem needs costs, the more the further below.
- *repetition* (rationale integrity), and -1 for what is no reply at all.

docs/decisions/0029-chrpo-by-price.md derives it. Knows no model, tokenizer or trainer.
"""

from __future__ import annotations

from dataclasses import dataclass

from extracot_training.config.objective import Objective, calibration, mode, spent

INVALID = -1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a rollout came to. ``level`` is the chosen one (``None``: none was); ``valid`` says that
    there is a level, a closed think block and a boxed answer; ``ratio`` is metered tokens over
    L_ref; ``repeated`` is the share of the reasoning that repeats itself, 0 to 1."""

    level: float | None
    valid: bool
    correct: bool
    ratio: float
    repeated: float = 0.0


@dataclass(frozen=True, slots=True)
class Reward:
    """``main`` for every token, ``ctrl`` for the level token; ``cost`` is what the level token paid
    in ``ctrl`` (0 to lambda); the other fields add up to ``main`` and are there to be logged."""

    main: float
    ctrl: float
    accuracy: float = 0.0
    calibration: float = 0.0
    mode: float = 0.0
    repetition: float = 0.0
    under: float = 0.0
    length: float = 0.0
    invalid: float = 0.0
    cost: float = 0.0


def reward(
    result: Result, needed: float, objective: Objective, price: float | None = None
) -> Reward:
    """The reward of one rollout of a problem that needs level ``needed`` (r*).

    ``price`` is lambda, ``objective.price`` if not given; only kind ``chrpo`` has one. With kind
    ``length_penalty`` or ``degrpo`` it is the reward of that method.

    >>> ours = Objective()
    >>> right = reward(Result(0.2, True, True, 0.2), 1.0, ours, price=0.5)
    >>> right.main, right.ctrl  # right and as long as promised; its level costs 0.2 of 0.5
    (1.1, 0.9)
    >>> long = reward(Result(0.2, True, True, 1.0), 1.0, ours, price=0.5)
    >>> long.main, long.ctrl  # the same label, but a whole length: it pays for that
    (0.9, 0.5)
    >>> wrong = reward(Result(0.2, True, False, 0.2), 1.0, ours, price=0.5)
    >>> wrong.main, wrong.ctrl  # a wrong reply pays for its level as well
    (0.0, -0.1)

    >>> capped = Objective(kind="chrpo_capped")
    >>> reward(Result(0.2, True, True, 0.2), 0.2, capped).main  # at the level it needs
    1.1
    >>> reward(Result(1.0, True, True, 1.0), 0.2, capped).main  # right at a level too high
    1.0
    >>> reward(Result(0.2, True, False, 0.2), 1.0, capped).main  # wrong far below r*
    -0.8
    >>> reward(Result(1.0, True, False, 1.0), 0.2, capped).main  # wrong above r*
    0.0
    """
    if not result.valid or result.level is None:
        return Reward(main=INVALID, ctrl=INVALID, invalid=INVALID)
    match objective.kind:
        case "chrpo":
            now = objective.price if price is None else price
            return _priced(result, result.level, objective, now)
        case "chrpo_capped":
            return _capped(result, result.level, needed, objective)
        case "length_penalty":
            return _length_penalty(result, objective)
        case "degrpo":
            return _degrpo(result, result.level, objective)


def repeated_share(ids: list[int], ngram: int) -> float:
    """Share of the n-grams of ``ids`` that occurred before; 0 for fewer than two of them.

    >>> repeated_share([1, 2, 3, 1, 2, 3, 1, 2], 3)  # 123 231 312 123 231 312: half are old
    0.5
    """
    seen = [tuple(ids[at : at + ngram]) for at in range(len(ids) - ngram + 1)]
    return 1.0 - len(set(seen)) / len(seen) if len(seen) > 1 else 0.0


def _priced(result: Result, level: float, objective: Objective, price: float) -> Reward:
    cost = price * spent(level, result.ratio)
    if not result.correct:
        return Reward(main=0.0, ctrl=-cost, cost=cost)
    fit = calibration(result.ratio, level, objective)
    repetition = -objective.repetition * result.repeated
    return Reward(
        main=1.0 + fit + repetition,
        ctrl=1.0 - cost,
        accuracy=1.0,
        calibration=fit,
        repetition=repetition,
        cost=cost,
    )


def _capped(result: Result, level: float, needed: float, objective: Objective) -> Reward:
    under = min(level - needed, 0.0)  # -(r* - c)+
    if not result.correct:
        main = under if objective.mode else 0.0
        return Reward(main=main, ctrl=under - objective.kappa, under=main)
    choice = mode(spent(level, result.ratio), needed, objective)
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
