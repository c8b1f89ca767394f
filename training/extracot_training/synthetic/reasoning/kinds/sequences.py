"""Sequences: arithmetic and geometric ones, and recurrences."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, tex
from extracot_training.synthetic.reasoning.kinds.registry import kind, slip

RATIOS = ((1, 2), (1, 3), (2, 3), (3, 4), (1, 4), (2, 5), (3, 5), (4, 5), (-1, 2), (-1, 3), (-2, 3))


@kind("arithmetic_sum", "sequences")
def arithmetic_sum(rng: Random) -> Problem:
    first, step = rng.randint(1, 20), rng.randint(2, 9)
    i, j = rng.randint(3, 5), rng.randint(7, 12)
    n = rng.choice((15, 20, 25, 30, 40))
    at_i, at_j = first + (i - 1) * step, first + (j - 1) * step
    last = first + (n - 1) * step

    def solve(g: Graph) -> None:
        rise = g.whole("rise", (f"the increase from term ${i}$ to term ${j}$",), f"{at_j} - {at_i}",
                       at_j - at_i)  # fmt: skip
        steps = g.whole(
            "steps", (f"the number of steps from term ${i}$ to term ${j}$",), f"{j} - {i}", j - i,
            slips=[slip(f"{j} - {i} + 1", j - i + 1, "the steps count, *not* the terms",
                        f"between ${j - i + 1}$ terms there are *only* ${j - i}$ steps",
                        kind="off_by_one")],
        )  # fmt: skip
        d = g.number("d", ("the common difference", "the step"), f"\\frac{{{rise}}}{{{steps}}}",
                     Fraction(rise, steps), "rise steps", symbol="d")  # fmt: skip
        a = g.number(
            "first", ("the first term",), f"{at_i} - {i - 1} \\cdot "
                                          f"{_par(d)}", at_i - (i - 1) * d, "d",
            symbol="a_1", why=(f"from the first to term ${i}$ there are ${i - 1}$ steps",),
            slips=[slip(f"{at_i} - {i} \\cdot {_par(d)}", at_i - i * d,
                        f"there are *only* ${i - 1}$ steps back to the first "
                        "term", kind="off_by_one")],
        )  # fmt: skip
        z = g.number(
            "last", (f"the term with number ${n}$", "the last term of the sum"),
            f"{tex(a)} + {n - 1} \\cdot {_par(d)}", a + (n - 1) * d, "first d", symbol=f"a_{{{n}}}",
            slips=[slip(f"{tex(a)} + {n} \\cdot {_par(d)}", a + n * d,
                        f"term ${n}$ is ${n - 1}$ steps after the first, *not* ${n}$",
                        kind="off_by_one")],
        )  # fmt: skip
        g.value(
            "sum", (f"the sum of the first ${n}$ terms", "the sum"),
            f"\\frac{{{n} \\cdot ({tex(a)} + {_par(z)})}}{{2}}", n * (a + z) / 2, "first last",
            symbol=f"S_{{{n}}}", why=("the sum is the number of terms times the mean of first "
                                      "and last",),
            slips=[slip(f"{n} \\cdot ({tex(a)} + {_par(z)})", n * (a + z),
                        "the pairs have been counted twice", "the factor $\\frac{1}{2}$ is "
                                                             "missing")],
        )  # fmt: skip

    total = n * (first + last) // 2
    return Problem(
        "arithmetic_sum",
        f"In an arithmetic sequence the term number ${i}$ is ${at_i}$ and the term number ${j}$ is "
        f"${at_j}$. What is the sum of the first ${n}$ terms?",
        str(total), (f"the sum of the first ${n}$ terms", "the sum"), solve, "sum",
        conditions=(f"$a_{{{i}}} = {at_i}$", f"$a_{{{j}}} = {at_j}$", f"the *first* ${n}$ terms "
                                                                      "are added"),
        dead=(("write down the terms", f"around ${at_i}$ there would be some unknown ones",
               f"adding ${n}$ numbers by hand isn't what I want"),
              (f"maybe the ratio matters, $\\frac{{{at_j}}}{{{at_i}}}$",
               "that would be for a *geometric* sequence")),
        checks=(f"the mean of first and last is ${tex(Fraction(first + last, 2))}$, and ${n}$ "
                "times that is "
                f"${total}$", f"term ${j}$ is ${first} + {j - 1} \\cdot {step} = {at_j}$"),
        other=(
            f"the mean of all ${n}$ terms is the mean of the first and the last",
            f"the first is ${first}$ and the last is ${first} + {n - 1} \\cdot {step} = {last}$",
            f"their mean is ${tex(Fraction(first + last, 2))}$",
            f"${n} \\cdot {tex(Fraction(first + last, 2))} = {total}$",
        ),
        remarks=(f"the tenth term is ${first + 9 * step}$", "the terms are *strictly* increasing",
                 f"the middle between the two given terms is ${tex(Fraction(at_i + at_j, 2))}$"),
    )  # fmt: skip


def _par(value: Fraction) -> str:
    return f"({tex(value)})" if value < 0 else tex(value)


@kind("geometric_series", "sequences")
def geometric_series(rng: Random) -> Problem:
    top, below = rng.choice(RATIOS)
    first = rng.randint(2, 30)
    ratio = Fraction(top, below)
    second = first * ratio

    def solve(g: Graph) -> None:
        q = g.number(
            "ratio", ("the common ratio",), f"\\frac{{{tex(second)}}}{{{first}}}"
            if second.denominator == 1 else f"{tex(second)} \\div {first}", ratio, symbol="q",
            why=("*each* term is divided by the one before it",),
            slips=[slip(f"\\frac{{{first}}}{{{tex(second)}}}" if second.denominator == 1
                        else f"{first} \\div {_par(second)}", 1 / ratio,
                        "the second term has to be on top", "I divided the wrong way round")],
        )  # fmt: skip
        g.claim(
            "converges",
            ("$|q| \\lt 1$, and *only if* that holds is there a sum",
             "the series has a sum *only if* $|q| \\lt 1$, which is the case here"), "ratio",
        )  # fmt: skip
        if abs(q) >= 1:
            raise Reject
        rest = g.number(
            "rest", ("the denominator of the formula", "$1 - q$"),
            f"1 - {tex(q)}" if q > 0 else f"1 + {tex(-q)}", 1 - q, "ratio",
            slips=[slip(f"1 + {tex(q)}" if q > 0 else f"1 - {tex(-q)}", 1 + q,
                        "the formula has $1 - q$ below", "that sign is wrong in the formula")],
        )  # fmt: skip
        g.value("sum", ("the sum of the series", "the sum"), f"{first} \\div {tex(rest)}",
                first / rest, "converges rest", symbol="S",
                slips=[slip(f"{first} \\cdot {tex(rest)}", first * rest,
                            "the first term is *divided* by $1 - q$")])  # fmt: skip

    terms = [first * ratio**i for i in range(4)]
    shown = f"{tex(terms[0])}"
    for term in terms[1:3]:
        shown += f" + {tex(term)}" if term > 0 else f" - {tex(-term)}"
    answer = first / (1 - ratio)
    return Problem(
        "geometric_series",
        f"What is the sum of the infinite geometric series ${shown} "
        f"{'+' if terms[3] > 0 else '-'} \\ldots$?",
        tex(answer), ("the sum of the series", "the sum"), solve, "sum",
        conditions=(f"the series is ${shown} {'+' if terms[3] > 0 else '-'} \\ldots$",
                    "it has *infinitely* many terms", f"it begins with ${first}$"),
        dead=((f"add up the first terms, ${tex(sum(terms[:2]))}$, then ${tex(sum(terms[:3]))}$",
               f"and ${tex(sum(terms))}$", "it gets close to something but never ends"),
              ("perhaps it's arithmetic", "the difference of the first two is "
                                          f"${tex(second - first)}$",
               "the next difference is another one")),
        checks=(f"${tex(ratio)}$ times the sum is ${tex(answer * ratio)}$, and the difference of "
                "the two is "
                f"${first}$, the first term",),
        other=(
            f"call the sum $S$; without its first term the series is ${tex(ratio)}$ times itself",
            f"so $S = {first} + {tex(ratio)}S$" if ratio > 0 else f"so $S = {first} - "
                                                                  f"{tex(-ratio)}S$",
            f"that means ${tex(1 - ratio)}S = {first}$",
            f"and $S = {tex(answer)}$",
        ),
        remarks=(f"the fourth term is ${tex(terms[3])}$",
                 f"the first two terms make ${tex(terms[0] + terms[1])}$"),
    )  # fmt: skip


@kind("recurrence", "sequences")
def recurrence(rng: Random) -> Problem:
    p, q = rng.choice(((1, 1), (2, 1), (1, 2), (3, -1), (2, -1), (3, 1)))
    a, b = rng.randint(1, 6), rng.randint(1, 8)
    n = rng.randint(6, 8)
    before = "a_{n-2}" if abs(q) == 1 else f"{abs(q)}a_{{n-2}}"
    rule = f"{'' if p == 1 else p}a_{{n-1}} {'+' if q > 0 else '-'} {before}"

    def value(x: Fraction, y: Fraction) -> Fraction:
        return p * y + q * x

    def solve(g: Graph) -> None:
        terms = [Fraction(a), Fraction(b)]
        for i in range(3, n + 1):
            x, y = terms[-2], terms[-1]
            sign = "+" if q > 0 else "-"
            left = f"{p} \\cdot {_par(y)}" if p != 1 else tex(y)
            right = f"{abs(q)} \\cdot {_par(x)}" if abs(q) != 1 else _par(x)
            swapped = p * x + q * y
            deps = " ".join(f"a{k}" for k in (i - 2, i - 1) if k >= 3)
            slips = []
            if swapped != value(x, y):
                other = f"{p} \\cdot {_par(x)}" if p != 1 else tex(x)
                last = f"{abs(q)} \\cdot {_par(y)}" if abs(q) != 1 else _par(y)
                slips.append(
                    slip(
                        f"{other} {sign} {last}",
                        swapped,
                        "I swapped the two terms before it",
                        f"the factor ${p}$ belongs to the term *right* before",
                        kind="misreading",
                    )
                )
            terms.append(g.number(
                f"a{i}", (f"term number ${i}$", f"$a_{i}$"), f"{left} {sign} "
                                                             f"{right}", value(x, y), deps,
                symbol=f"a_{i}", slips=slips,
            ))  # fmt: skip

    terms = [a, b]
    while len(terms) < n:
        terms.append(p * terms[-1] + q * terms[-2])
    if max(map(abs, terms)) > 9000 or len(set(terms)) < n - 1:
        raise Reject
    return Problem(
        "recurrence",
        f"A sequence starts with $a_1 = {a}$ and $a_2 = {b}$, and for $n \\ge 3$ it satisfies "
        f"$a_n = {rule}$. What is $a_{n}$?",
        str(terms[-1]), (f"$a_{n}$", f"term number ${n}$"), solve, f"a{n}",
        conditions=(f"$a_n = {rule}$ for *all* $n \\ge 3$", f"$a_1 = {a}$", f"$a_2 = {b}$"),
        dead=(("look for a closed formula", f"the characteristic equation is $x^2 = {p}x "
               f"{'+' if q > 0 else '-'} {abs(q)}$", "a few steps by hand are quicker than that"),
              ("perhaps the ratio is constant", f"$\\frac{{{terms[2]}}}{{{b}}}$ and "
               f"$\\frac{{{b}}}{{{a}}}$ would have to be equal", "there's *no* reason for that")),
        checks=(f"backwards, $a_{n - 2}$ comes out as ${terms[-3]}$ again",),
        remarks=(f"the first two terms add up to ${a + b}$", f"the term after that would be "
                 f"${p * terms[-1] + q * terms[-2]}$"),
    )  # fmt: skip
