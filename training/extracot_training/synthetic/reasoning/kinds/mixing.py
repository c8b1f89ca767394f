"""Mixtures and percentages."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, tex
from extracot_training.synthetic.reasoning.kinds.registry import kind, slip

JOBS = (
    ("paint a fence", "hours"),
    ("mow a meadow", "hours"),
    ("sort the mail", "minutes"),
    ("clean the hall", "hours"),
    ("peel the potatoes", "minutes"),
)


@kind("mixture", "rates")
def mixture(rng: Random) -> Problem:
    p, q, r = rng.sample(range(5, 95, 5), 3)
    if not p < r < q:
        raise Reject
    have = rng.randint(2, 30)
    what, add = rng.choice((("salt solution", "stronger solution"), ("syrup", "thicker syrup"),
                            ("alcohol mix", "stronger mix"), ("juice drink", "drink with more "
                                                                             "juice")))  # fmt: skip

    def solve(g: Graph) -> None:
        pure = g.number(
            "pure", ("the pure substance at the beginning",), f"\\frac{{{p}}}{{100}} \\cdot {have}",
            Fraction(p * have, 100), unit="litres",
            slips=[slip(f"\\frac{{{r}}}{{100}} \\cdot {have}", Fraction(r * have, 100),
                        f"at the beginning it's ${p}\\%$ and *not* ${r}\\%$", kind="misreading")],
        )  # fmt: skip
        wanted = g.number(
            "wanted", (f"the pure substance in ${have}$ litres of the final mix",),
            f"\\frac{{{r}}}{{100}} \\cdot "
            f"{have}", Fraction(r * have, 100), unit="litres")  # fmt: skip
        gap = g.number("gap", ("the missing amount of pure substance", "the gap"),
                       f"{tex(wanted)} - {tex(pure)}", wanted - pure, "wanted pure")  # fmt: skip
        if gap <= 0:
            raise Reject
        per = g.number(
            "per", ("what *each* added litre brings in surplus",), f"\\frac{{{q} - {r}}}{{100}}",
            Fraction(q - r, 100),
            why=(f"*each* added litre must itself end up at ${r}\\%$",),
            slips=[slip(f"\\frac{{{q}}}{{100}}", Fraction(q, 100),
                        "the added litre enlarges the whole, too, so *only* the surplus over "
                        f"${r}\\%$ counts",
                        f"of the ${q}\\%$ it needs ${r}\\%$ for itself")],
        )  # fmt: skip
        g.value("x", (f"the amount of the {add}", "the amount to add"), f"{tex(gap)} \\div "
                                                                        f"{tex(per)}", gap / per,
                "gap per", symbol="x", unit="litres")  # fmt: skip

    answer = Fraction(have * (r - p), q - r)
    total = have + answer
    return Problem(
        "mixture",
        f"There are ${have}$ litres of a {what} of ${p}\\%$. How many litres of a {add} of "
        f"${q}\\%$ must be "
        f"added to get a concentration of ${r}\\%$?",
        tex(answer), ("the amount to add", "the number of litres to add"), solve, "x",
        conditions=(f"there are ${have}$ litres of ${p}\\%$", f"the added one has ${q}\\%$",
                    f"the result must have *exactly* ${r}\\%$"),
        dead=((f"the mean of ${p}$ and ${q}$ is ${tex(Fraction(p + q, 2))}$", "that would be for "
                                                                              "equal amounts",
               "the amounts are *not* equal here" if 2 * r != p + q else "I can't assume that"),
              (f"try ${have}$ litres more", "the concentration is then "
                                            f"${tex(Fraction(p + q, 2))}\\%$",
               "trying amounts could go on forever")),
        checks=(f"in the end there are ${tex(total)}$ litres with ${tex(total * r / 100)}$ pure, "
                "and "
                f"${tex(Fraction(p * have, 100))} + {tex(answer * q / 100)}$ is the same",),
        other=(
            f"the first is ${r - p}$ below the wanted percentage and the second ${q - r}$ above it",
            f"the amounts have to be as ${q - r}$ to ${r - p}$",
            f"so it takes $\\frac{{{r - p}}}{{{q - r}}} \\cdot {have} = {tex(answer)}$ litres",
        ),
        remarks=(f"the ratio of the two amounts is ${q - r}$ to ${r - p}$",
                 f"the final mix has ${100 - r}\\%$ of the other part"),
        unit="litres",
    )  # fmt: skip


@kind("percent_twice", "rates")
def percent_twice(rng: Random) -> Problem:
    up, down = rng.choice((10, 20, 25, 30, 40, 50)), rng.choice((10, 20, 25, 30, 40, 50))
    thing, unit = rng.choice(
        (("jacket", "euros"), ("bike", "euros"), ("phone", "euros"), ("lamp", "euros"))
    )
    price = rng.choice((40, 60, 80, 120, 160, 200, 240, 300, 400))
    back = rng.random() < 0.5
    final = Fraction(price) * (100 + up) / 100 * (100 - down) / 100

    def solve(g: Graph) -> None:
        rise = g.number("rise", ("the factor of the increase",), f"1 + \\frac{{{up}}}{{100}}",
                        1 + Fraction(up, 100),
                        slips=[slip(f"\\frac{{{up}}}{{100}}", Fraction(up, 100),
                                    "the old price stays and the increase is *added* to "
                                    "it")])  # fmt: skip
        fall = g.number("fall", ("the factor of the reduction",), f"1 - \\frac{{{down}}}{{100}}",
                        1 - Fraction(down, 100),
                        slips=[slip(f"\\frac{{{down}}}{{100}}", Fraction(down, 100),
                                    f"${down}\\%$ are taken *off*, the rest remains")])  # fmt: skip
        both = g.number(
            "both", ("the factor of both changes", "the total factor"),
            f"{tex(rise)} \\cdot {tex(fall)}", rise * fall, "rise fall",
            why=("the second percentage refers to the *new* price",
                 f"${down}\\%$ is taken of the *raised* price and *not* of the first one"),
            slips=[slip(f"1 + \\frac{{{up} - {down}}}{{100}}", 1 + Fraction(up - down, 100),
                        "percentages of different bases can*not* be added",
                        "the second one refers to the *raised* price")],
        )  # fmt: skip
        if back:
            g.value("price", ("the original price", "the price at first"), f"{tex(final)} \\div "
                                                                           f"{tex(both)}",
                    final / both, "both", unit=unit,
                    why=("I go back, so it has to be *divided*",),
                    slips=[slip(f"{tex(final)} \\cdot {tex(both)}", final * both,
                                "that's the wrong direction, the *final* price is given",
                                kind="misreading")])  # fmt: skip
        else:
            g.value("price", ("the final price", "the price in the end"), f"{price} \\cdot "
                                                                          f"{tex(both)}",
                    price * both, "both", unit=unit)  # fmt: skip

    change = Fraction(100 + up, 100) * Fraction(100 - down, 100)
    question = (
        f"The price of a {thing} is raised by ${up}\\%$ and later lowered by ${down}\\%$. "
        + (f"Now it is ${tex(final)}$ {unit}. What was the price at first?" if back else
           f"It was ${price}$ {unit} at first. What is the price in the end?")
    )  # fmt: skip
    return Problem(
        "percent_twice", question, str(price) if back else tex(final),
        ("the price at first" if back else "the price in the end",), solve, "price",
        conditions=(f"first the price goes *up* by ${up}\\%$", "then it goes *down* by "
                                                               f"${down}\\%$",
                    "the second change applies to the *new* price"),
        dead=((f"just add it up, ${up} - {down} = {up - down}$", "so it would have changed by "
                                                                 f"${up - down}\\%$",
               "the two percentages have different bases"),
              ("assume the price was $100$", f"then it's ${tex(100 * change)}$ in the end",
               "that is an example and not yet the price here")),
        checks=(f"${price}$ raised by ${up}\\%$ is ${tex(price * Fraction(100 + up, 100))}$, and "
                "lowered it is "
                f"${tex(final)}$",),
        other=(
            f"step by step, ${up}\\%$ of ${price}$ is ${tex(Fraction(price * up, 100))}$",
            f"so it rises to ${tex(Fraction(price * (100 + up), 100))}$",
            f"${down}\\%$ of that is ${tex(Fraction(price * (100 + up) * down, 10000))}$",
            f"and it falls to ${tex(final)}$",
        ),
        remarks=(f"in all it's a change of ${tex((change - 1) * 100)}\\%$",
                 "the order of the two changes does *not* matter"),
        unit=unit,
    )  # fmt: skip
