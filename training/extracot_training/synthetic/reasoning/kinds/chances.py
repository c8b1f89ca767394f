"""Counting and probability: draws without replacement, neighbours in a row."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, tex
from extracot_training.synthetic.reasoning.kinds.registry import NAMES, kind, slip

WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}


@kind("urn", "counting")
def urn(rng: Random) -> Problem:
    red, blue = rng.randint(2, 8), rng.randint(2, 8)
    n = red + blue
    thing = rng.choice(("balls", "marbles", "socks", "cards", "beads"))
    c1, c2 = rng.sample(("red", "blue", "green", "white", "black", "yellow"), 2)
    same = rng.random() < 0.5

    def solve(g: Graph) -> None:
        keep = f"the first of the {thing} is *not* put back"
        if same:
            parts = []
            for key, colour, k in (("a", c1, red), ("b", c2, blue)):
                parts.append(g.number(
                    key, (f"the probability of two {colour} {thing}",),
                    f"\\frac{{{k}}}{{{n}}} \\cdot \\frac{{{k - 1}}}{{{n - 1}}}",
                    Fraction(k * (k - 1), n * (n - 1)), why=(keep,),
                    slips=[slip(f"\\frac{{{k}}}{{{n}}} \\cdot "
                                f"\\frac{{{k}}}{{{n}}}", Fraction(k * k, n * n),
                                keep, "the second draw has one less to choose "
                                      "from", kind="misreading")],
                ))  # fmt: skip
            g.value("answer", ("the probability of equal colours",),
                    f"{tex(parts[0])} + {tex(parts[1])}", parts[0] + parts[1], "a b",
                    why=(f"*either* both are {c1} *or* both are {c2}",),
                    slips=[slip(f"{tex(parts[0])} \\cdot {tex(parts[1])}", parts[0] * parts[1],
                                "the two cases exclude each other, so they're "
                                "*added*")])  # fmt: skip
        else:
            none = g.number(
                "none", (f"the probability of *no* {c1} one", "the probability that *neither* "
                                                              f"is {c1}"),
                f"\\frac{{{blue}}}{{{n}}} \\cdot \\frac{{{blue - 1}}}{{{n - 1}}}",
                Fraction(blue * (blue - 1), n * (n - 1)), why=(keep,),
                slips=[slip(f"\\frac{{{blue}}}{{{n}}} \\cdot \\frac{{{blue}}}{{{n}}}",
                            Fraction(blue * blue, n * n), keep,
                            "the second draw has one less to choose from", kind="misreading")],
            )  # fmt: skip
            g.value("answer", ("the probability of *at least* one "
                               f"{c1}",), f"1 - {tex(none)}", 1 - none,
                    "none", why=("*at least* one is the opposite of *none*",))  # fmt: skip

    both = Fraction(red * (red - 1) + blue * (blue - 1), n * (n - 1))
    answer = both if same else 1 - Fraction(blue * (blue - 1), n * (n - 1))
    ask = "both have the same colour" if same else f"at least one of them is {c1}"
    mixed = Fraction(2 * red * blue, n * (n - 1))
    return Problem(
        "urn",
        f"A bag holds ${red}$ {c1} and ${blue}$ {c2} {thing}. Two {thing} are drawn one after "
        "the other "
        f"without putting the first back. What is the probability that {ask}?",
        tex(answer), ("the probability", f"the probability that {ask}"), solve, "answer",
        conditions=(f"there are ${red}$ {c1} and ${blue}$ {c2} {thing}", "two are drawn "
                                                                         "*without* replacement",
                    f"the question is whether {ask}"),
        dead=((f"the chance for a {c1} one is $\\frac{{{red}}}{{{n}}}$ in the first draw",
               f"twice that would be ${tex(Fraction(2 * red, n))}$", "chances do *not* just add "
                                                                     "up like that"),
              ("draw a tree with all branches", "there are four paths", "I only need some of "
                                                                        "them")),
        checks=((f"the chance of different colours is ${tex(mixed)}$, and ${tex(both)}$ is what "
                 "is left "
                 "for equal ones",)),
        remarks=(f"a pair of different colours has the probability ${tex(mixed)}$",
                 f"there are ${comb(n, 2)}$ pairs in all"),
    )  # fmt: skip


@kind("not_adjacent", "counting")
def not_adjacent(rng: Random) -> Problem:
    n = rng.randint(5, 8)
    a, b = rng.sample(NAMES, 2)
    things = rng.random() < 0.3
    who = (
        f"{WORDS[n].capitalize()} different books, among them an atlas and a dictionary, "
        "are put on a shelf"
    )
    if things:
        a, b = "the atlas", "the dictionary"

    def solve(g: Graph) -> None:
        total = g.whole("total", ("the number of *all* orders",), f"{n}!", factorial(n),
                        slips=[slip(f"{n - 1}!", factorial(n - 1), f"there are ${n}$ of them in "
                                                                   "the row",
                                    kind="off_by_one")])  # fmt: skip
        blocks = g.whole(
            "blocks", (f"the number of orders with {a} and {b} as one block",), f"{n - 1}!",
            factorial(n - 1), why=(f"{a} and {b} count as one, so ${n - 1}$ things are ordered",),
            slips=[slip(f"{n - 2}!", factorial(n - 2), "the block itself has to be ordered, too",
                        kind="off_by_one")],
        )  # fmt: skip
        together = g.whole(
            "together", (f"the number of orders with {a} *next to* {b}",), f"2 \\cdot {blocks}",
            2 * blocks, "blocks",
            why=("the two can swap within the block",),
            slips=[slip(f"{blocks}", blocks, "the two can stand in *either* order within the block",
                        "I forgot that they can swap")],
        )  # fmt: skip
        g.value("answer", (f"the number of orders with {a} and {b} *not* next to each other",),
                f"{total} - {together}", total - together, "total together",
                why=("they must *not* be neighbours",))  # fmt: skip

    answer = factorial(n) - 2 * factorial(n - 1)
    intro = who if things else f"{WORDS[n].capitalize()} friends, among them {a} and {b}, line up"
    return Problem(
        "not_adjacent",
        f"{intro}. In how many orders are {a} and {b} not next to each other?",
        str(answer), ("the number of such orders",), solve, "answer",
        conditions=(f"{a} and {b} must *not* be next to each other", f"there are ${n}$ in the row"),
        dead=((f"fix a place for {a}", f"if that's an end, {b} has ${n - 2}$ places left",
               f"otherwise ${n - 3}$", "that is a case distinction I would rather avoid"),
              (f"say that half of the ${factorial(n)}$ orders are bad", "there's *no* reason for "
                                                                        "a half")),
        checks=(f"the other ${n - 2}$ make ${n - 1}$ gaps, and ${n - 1} \\cdot {n - 2} \\cdot "
                f"{n - 2}! = {answer}$",),
        remarks=(f"there are ${n - 1}$ pairs of neighbouring places",
                 f"in $\\frac{{2}}{{{n}}}$ of all orders the two *are* neighbours"),
    )  # fmt: skip
