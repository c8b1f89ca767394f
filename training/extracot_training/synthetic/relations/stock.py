"""Chains of relations about one amount: things, money, people somewhere, or what is measured.

A chain has a beginning, relations that change the amount, and a question, each drawn by itself, so
that they meet in every order.
"""

from __future__ import annotations

from collections.abc import Callable

from extracot_training.synthetic.arithmetic.tasks import FRACTIONS
from extracot_training.synthetic.relations.bank import rules
from extracot_training.synthetic.relations.problem import Problem, different, one_of
from extracot_training.synthetic.story import Op, Reject

TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times", 10: "ten times"}
CRATES = ("crates", "boxes", "bags")


def things(p: Problem, steps: int) -> None:
    """Somebody's things."""
    x = p.rng.choice(rules()["x"])
    p.voice.slots |= {"x": x, "x1": one_of(x), "y": different(p.rng, rules()["x"], x)}
    if p.voice.slots["boxes"] == x:
        raise Reject
    _chain(p, "things", steps)


def money(p: Problem, steps: int) -> None:
    p.voice.slots |= {"x": "dollars", "y": p.rng.choice(rules()["x"])}
    _chain(p, "money", steps)


def crowd(p: Problem, steps: int) -> None:
    p.voice.slots["x"] = p.rng.choice(rules()["crowd_x"])
    _chain(p, "crowd", steps)


def measure(p: Problem, steps: int) -> None:
    stuff, unit, *vessels = p.rng.choice(rules()["stuff"]).split(",")
    p.voice.slots |= {"x": unit, "stuff": stuff, "vessel": p.rng.choice(vessels)}
    _chain(p, "measure", steps)


def _chain(p: Problem, kind: str, steps: int) -> None:
    if p.rng.random() < 0.1 and steps <= 2:
        _from_the_end(p, kind, steps)
        return
    have = _begin(p, kind, steps)
    ends = kind == "things" and p.rng.random() < 0.45
    while len(p.steps) < steps - (1 if ends else 0):
        have = _changed(p, kind, have)
    if ends and len(p.steps) < steps:
        p.rng.choice(ENDINGS)(p, have)
    elif not p.steps:
        raise Reject
    else:
        _ask(p, kind)
    if len(p.steps) > steps:
        raise Reject
    if kind == "things" and p.rng.random() < 0.14:
        p.asides.append(str(p.draw(2, 60)))
        aside = p.voice.say("aside", {"q": p.asides[0]})
        p.facts.insert(p.rng.randint(1, len(p.facts)), aside)


def _ask(p: Problem, kind: str) -> None:
    """How many there are now; how many are left only where the last that happened was a loss."""
    left = p.steps[-1].op is Op.SUB
    p.question(f"{kind}_left" if left else f"{kind}_all")


def _begin(p: Problem, kind: str, steps: int) -> int:
    choices: list[Callable[[Problem], int]] = []
    if kind == "things":
        choices = [_groups, _two, _than]
        choices += [_three] if steps >= 2 else []
    if choices and p.rng.random() < 0.5:
        return p.rng.choice(choices)(p)
    have = p.draw(2, max(2, p.cap * 2 // 3))
    p.fact(f"{kind}_start", n=p.n(have), nx=p.counted(have))
    return have


def _groups(p: Problem) -> int:
    m, k = p.draw(2, min(12, p.cap // 2)), p.draw(2, max(2, min(30, p.cap // 3)))
    p.fact("groups_start", m=p.n(m), k=p.n(k))
    return p.calc(Op.MUL, m, k, "things_thus")


def _two(p: Problem) -> int:
    n, m = p.draw(2, p.cap // 2), p.draw(2, p.cap // 2)
    p.fact("two_start", n=p.n(n), m=p.n(m))
    return p.calc(Op.ADD, n, m, "things_thus")


def _three(p: Problem) -> int:
    n, m, k = (p.draw(2, max(2, p.cap // 3)) for _ in range(3))
    p.fact("three_start", n=p.n(n), m=p.n(m), k=p.n(k))
    return p.calc(Op.ADD, p.calc(Op.ADD, n, m), k, "things_thus")


def _than(p: Problem) -> int:
    """An amount told against somebody else's."""
    relation = p.rng.choice(("more", "fewer", "times", "part"))
    p.by_name()
    k = p.draw(2, max(2, p.cap // 3))
    if relation == "more":
        n = p.draw(2, max(2, p.cap - k))
        p.fact("more_than", n=p.n(n), k=p.n(k))
        return p.calc(Op.ADD, n, k, "things_thus")
    if relation == "fewer":
        n = p.draw(k + 1, p.cap)
        p.fact("fewer_than", n=p.n(n), k=p.n(k))
        return p.calc(Op.SUB, n, k, "things_thus")
    if relation == "times":
        k = p.rng.choice(list(TIMES))
        n = p.draw(2, max(2, p.cap // k))
        p.fact("times_than", n=p.n(n), times=TIMES[k])
        return p.calc(Op.MUL, n, k, "things_thus")
    k = p.rng.choice((2, 2, 3, 4))
    part = {2: "half", 3: "a third", 4: "a quarter"}[k]
    n = k * p.draw(2, max(2, p.cap // k))
    p.fact("part_than", n=p.n(n), part=part, times=TIMES[k])
    return p.calc(Op.DIV, n, k, "things_thus")


def _changed(p: Problem, kind: str, have: int) -> int:
    if kind == "things" and p.rng.random() < 0.35:
        return p.rng.choice((_more_groups, _fewer_groups, _part, _percent, _times))(p, have)
    if p.rng.random() < 0.5:
        n = p.draw(2, p.cap - have)
        p.fact(f"{kind}_get", n=p.n(n))
        return p.calc(Op.ADD, have, n, f"{kind}_thus")
    n = p.draw(2, have - 1)
    p.fact(f"{kind}_lose", n=p.n(n))
    return p.calc(Op.SUB, have, n, f"{kind}_thus")


def _more_groups(p: Problem, have: int) -> int:
    m, k = p.draw(2, 10), p.draw(2, 12)
    p.fact("groups_more", m=p.n(m), k=p.n(k))
    return p.calc(Op.ADD, have, p.calc(Op.MUL, m, k), "things_thus")


def _fewer_groups(p: Problem, have: int) -> int:
    m = p.draw(2, 8)
    k = p.draw(2, (have - 1) // m)
    p.fact("groups_less", m=p.n(m), k=p.n(k))
    return p.calc(Op.SUB, have, p.calc(Op.MUL, m, k), "things_thus")


def _part(p: Problem, have: int) -> int:
    """A fraction of them goes."""
    fitting = [item for item in FRACTIONS.items() if have % item[0][1] == 0]
    if not fitting:
        raise Reject
    (top, bottom), part = p.rng.choice(fitting)
    p.fact("half_lose", part=part)
    gone = p.calc(Op.DIV, have, bottom, note=f"I need {part} of {have}.")
    if top > 1:
        gone = p.calc(Op.MUL, gone, top)
    return p.calc(Op.SUB, have, gone, "things_thus")


def _percent(p: Problem, have: int) -> int:
    part = {50: 2, 25: 4, 20: 5, 10: 10}
    fitting = [share for share, parts in part.items() if have % parts == 0]
    if not fitting:
        raise Reject
    share = p.rng.choice(fitting)
    p.fact("percent_lose", k=str(share))
    note = f"{share}% is 1 of {part[share]} equal parts."
    gone = p.calc(Op.DIV, have, part[share], note=note)
    return p.calc(Op.SUB, have, gone, "things_thus")


def _times(p: Problem, have: int) -> int:
    k = p.rng.choice(list(TIMES))
    p.fact("times_get", times=TIMES[k])
    return p.calc(Op.MUL, have, k, "things_thus")


def _from_the_end(p: Problem, kind: str, steps: int) -> None:
    """What there was at first, from what there is at the end."""
    p.fact(f"{kind}_some")
    changes = []
    for _ in range(steps):
        gets = p.rng.random() < 0.5
        n = p.draw(2, max(2, p.cap // 3))
        p.fact(f"{kind}_get" if gets else f"{kind}_lose", n=p.n(n))
        changes.append((gets, n))
    end = p.draw(2, p.cap // 2)
    p.fact(f"{kind}_thus", n=p.n(end), nx=p.counted(end))
    have = end
    for gets, n in reversed(changes):
        have = p.calc(Op.SUB if gets else Op.ADD, have, n, note="I go back from the end.")
    p.question(f"{kind}_first", past=True)


def _share(p: Problem, have: int) -> None:
    fitting = [k for k in range(2, 13) if have % k == 0 and have > k]
    if not fitting:
        raise Reject
    k = p.rng.choice(fitting)
    p.question(p.rng.choice(("share", "pack")), k=p.n(k))
    p.calc(Op.DIV, have, k)


def _rest(p: Problem, have: int) -> None:
    k = p.draw(3, min(12, have - 1))
    rule = p.rng.choice(("rest", "full"))
    p.question(rule, k=p.n(k))
    p.divided(have, k, rest=rule == "rest")


def _need(p: Problem, have: int) -> None:
    """The last container need not be full."""
    k = p.draw(3, min(12, have - 1))
    p.question("need", k=p.n(k))
    full = p.divided(have, k, rest=False)
    p.calc(Op.ADD, full, 1, note="What is left over needs one more.")


def _worth(p: Problem, have: int) -> None:
    k = p.draw(2, 12)
    p.question(p.rng.choice(("sell", "weigh")), k=p.n(k))
    p.calc(Op.MUL, have, k)


def _of_them(p: Problem, have: int) -> None:
    template = p.voice.one("of_them")
    k = p.draw(2, have - 1)
    big = have + p.draw(2, max(3, have))
    p.ask = p.voice.filled(template, {"k": p.n(k), "big": p.n(big)}, past=False)
    if "{big}" in template:
        p.calc(Op.SUB, big, have)
    else:
        p.calc(Op.SUB, have, k)


def _both(p: Problem, have: int) -> None:
    m = p.draw(2, p.cap)
    p.fact("both", m=p.n(m))
    if m < have and p.rng.random() < 0.5:
        p.question("both_more")
        p.calc(Op.SUB, have, m)
    else:
        p.question("both_all")
        p.calc(Op.ADD, have, m)


ENDINGS = (_share, _share, _rest, _need, _worth, _of_them, _both, _both)
