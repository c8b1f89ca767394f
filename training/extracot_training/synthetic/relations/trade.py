"""Prices, and so much in each unit of time: one calculation after another from a few numbers."""

from __future__ import annotations

from extracot_training.synthetic.arithmetic.spelling import money
from extracot_training.synthetic.relations.bank import rules
from extracot_training.synthetic.relations.problem import Problem, one_of
from extracot_training.synthetic.story import Op, Reject

PERIODS = {"minute": "minutes", "hour": "hours", "day": "days", "week": "weeks"}
PERIODS |= {"month": "months", "evening": "evenings"}
PER = {"minute": ("a minute", "per minute"), "hour": ("an hour", "per hour", "every hour")}
PER |= {
    "day": ("a day", "per day", "every day", "each day"),
    "week": ("a week", "per week", "every week"),
}
PER |= {"month": ("a month", "per month", "every month"), "evening": ("every evening",)}


def buying(p: Problem, steps: int) -> None:
    """One or two kinds of goods at a price each, more for the bill, then the bill or the change."""
    p.cents = p.rng.random() < 0.35
    cost = _bought(p, "buy_one")
    last = p.rng.choice((None, "buy_change", "buy_change", "buy_share"))
    while len(p.steps) < steps - (last is not None):
        if steps - (last is not None) - len(p.steps) >= 2:
            cost = p.calc(Op.ADD, cost, _bought(p, "buy_more"))
        else:
            extra = _price(p)
            off = extra < cost // 2 and p.rng.random() < 0.4
            p.fact("buy_off" if off else "buy_single", price=_told(p, extra))
            cost = p.calc(Op.SUB if off else Op.ADD, cost, extra)
    if last == "buy_change" and len(p.steps) < steps:
        note = _note(p, cost)
        p.question(last, note=_told(p, note))
        p.calc(Op.SUB, note, cost)
    elif last == "buy_share" and len(p.steps) < steps:
        fitting = [k for k in range(2, 9) if cost % k == 0]
        if not fitting:
            raise Reject
        k = p.rng.choice(fitting)
        p.question(last, k=p.n(k))
        p.calc(Op.DIV, cost, k)
    else:
        p.question("buy_total")


def _bought(p: Problem, rule: str) -> int:
    goods = p.rng.choice([one for one in rules()["goods"] if one not in " ".join(p.facts)])
    n, price = p.draw(2, 12), _price(p)
    p.fact(rule, n=p.n(n), goods=goods, good=one_of(goods), price=_told(p, price))
    if p.cents and price % 100:
        p.before.append(f"{money(price)} is {price} cents.")
    return p.calc(Op.MUL, n, price)


def _price(p: Problem) -> int:
    if not p.cents:
        return p.draw(2, max(3, p.cap // 12))
    return 100 * p.rng.randint(0, 9) + p.rng.choice((25, 50, 50, 75, 20, 40, 80, 95))


def _told(p: Problem, amount: int) -> str:
    """An amount as the text has it: ``$2.50``, ``3 dollars``."""
    if p.cents:
        return f"${money(amount)}"
    return p.rng.choice((f"${amount}", f"{p.n(amount)} dollars"))


def _note(p: Problem, cost: int) -> int:
    unit = 100 if p.cents else 1
    notes = [n * unit for n in (5, 10, 20, 50, 100, 200, 500) if n * unit > cost]
    if p.rng.random() < 0.3 or not notes:
        return cost + p.draw(2, 40) * (25 if p.cents else 1)
    return notes[0]


def priced(p: Problem, steps: int) -> None:
    """The price of one, of others, or how many an amount buys."""
    goods = p.rng.choice(rules()["goods"])
    p.voice.slots |= {"goods": goods, "good": one_of(goods)}
    n, price = p.draw(2, 12), p.draw(2, max(3, p.cap // 8))
    if steps > 1:
        m = p.draw(2, 15)
        if m == n:
            raise Reject
        p.question("unit_more", n=p.n(n), m=p.n(m), sum=_told(p, n * price))
        p.calc(Op.MUL, p.calc(Op.DIV, n * price, n, note="First the price of one."), m)
    elif p.rng.random() < 0.5:
        p.question("unit_price", n=p.n(n), sum=_told(p, n * price))
        p.calc(Op.DIV, n * price, n)
    else:
        p.question("afford", price=_told(p, price), sum=_told(p, n * price))
        p.calc(Op.DIV, n * price, price)


def percent(p: Problem, steps: int) -> None:
    """A price lowered or raised by a percentage, or the amount of that."""
    share, parts = p.rng.choice(((10, 10), (20, 5), (25, 4), (50, 2), (5, 20), (30, 0), (40, 0)))
    price = (parts or 10) * p.draw(1, max(2, p.cap // 10))
    goods = one_of(p.rng.choice(rules()["goods"]))
    p.voice.slots |= {"good": goods, "sum": _told(p, price), "k": str(share)}
    note = f"{share}% is 1 of {parts} equal parts." if parts else "10% is 1 of 10 equal parts."
    rule = "saved" if steps == 1 else p.rng.choice(("sale", "raise"))
    p.question(rule, past=False)
    part = p.calc(Op.DIV, price, parts or 10, note=note)
    if not parts:
        part = p.calc(Op.MUL, part, share // 10)
    if rule != "saved":
        p.calc(Op.SUB if rule == "sale" else Op.ADD, price, part)


def rate(p: Problem, steps: int) -> None:
    """So much in each unit of time: in some time, the time for some, or in one unit."""
    lemma, units, *periods = p.rng.choice(rules()["work"]).split(",")
    time = p.rng.choice(periods)
    slots = {"units": units, "time": time, "times_unit": PERIODS[time]}
    slots |= {"per": p.rng.choice(PER[time])}
    p.voice.slots |= slots | {"x": units}
    p.voice.lemmas = {"work": lemma}
    m, k = p.draw(2, 15), p.draw(2, max(3, p.cap // 6))
    if steps == 1 and p.rng.random() < 0.25:
        p.question("rate_each", n=p.n(m * k), m=p.n(m))
        p.calc(Op.DIV, m * k, m)
        return
    p.fact("rate", k=p.n(k))
    if steps == 1 and p.rng.random() < 0.3:
        p.question("rate_long", n=p.n(m * k))
        p.calc(Op.DIV, m * k, k)
    elif steps == 1:
        p.question("rate_ask", m=p.n(m))
        p.calc(Op.MUL, k, m)
    else:
        _rate_on(p, steps, k, m)


def _rate_on(p: Problem, steps: int, k: int, m: int) -> None:
    """The product, and then more or less of it."""
    p.fact("rate_for", m=p.n(m))
    have = p.calc(Op.MUL, k, m)
    while len(p.steps) < steps:
        template = p.voice.one("rate_less")
        n = p.draw(2, have - 1)
        if (said := p.voice.filled(template, {"n": p.n(n)})) in p.facts:
            raise Reject
        p.facts.append(said)
        have = p.calc(Op.SUB if "not good" in template else Op.ADD, have, n)
    p.question("rate_total")


def clock(p: Problem, steps: int) -> None:
    """Minutes from one time to another, or of hours and minutes."""
    if steps > 1:
        h, n = p.draw(2, 9), p.rng.randint(1, 59)
        p.question("long", h=p.n(h), n=p.n(n))
        note = "An hour has 60 minutes."
        p.calc(Op.ADD, p.calc(Op.MUL, h, 60, note=note), n)
        return
    hour, start = p.rng.randint(1, 11), 5 * p.rng.randint(0, 10)
    end = p.rng.randint(start + 1, 59)
    p.question("clock", t1=f"{hour}:{start:02}", t2=f"{hour}:{end:02}")
    p.calc(Op.SUB, end, start, note="Both are in the same hour.") if start else p.calc(
        Op.SUB, end + 60, 60, note="I count the minutes after the hour."
    )


def length(p: Problem, steps: int) -> None:
    """Something long that is cut, or tied to another."""
    del steps
    template = p.voice.one("length")
    k = p.draw(2, max(3, p.cap // 8))
    n = k * p.draw(2, 12)
    p.ask = p.voice.filled(template, {"n": p.n(n), "k": p.n(k)})
    if "pieces" in template:
        p.calc(Op.DIV, n, k)
    else:
        p.calc(Op.SUB if "left" in template else Op.ADD, n, k)
