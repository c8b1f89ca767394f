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
        other=(
            f"there are $\\binom{{{n}}}{{2}} = {comb(n, 2)}$ pairs, all equally likely",
            f"$\\binom{{{red}}}{{2}} = {comb(red, 2)}$ of them are {c1} only",
            f"$\\binom{{{blue}}}{{2}} = {comb(blue, 2)}$ are {c2} only",
            f"and ${red} \\cdot {blue} = {red * blue}$ are mixed",
            f"the favourable share is ${tex(answer)}$",
        ),
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
        other=(
            f"put the other ${n - 2}$ in a row first, which goes in ${n - 2}! = "
            f"{factorial(n - 2)}$ ways",
            f"they leave ${n - 1}$ gaps, the ends included",
            f"{a} gets one of them and {b} another, ${n - 1} \\cdot {n - 2} = "
            f"{(n - 1) * (n - 2)}$ ways",
            f"${factorial(n - 2)} \\cdot {(n - 1) * (n - 2)} = {answer}$",
        ),
        remarks=(f"there are ${n - 1}$ pairs of neighbouring places",
                 f"in $\\frac{{2}}{{{n}}}$ of all orders the two *are* neighbours"),
    )  # fmt: skip


@kind("neither_divides", "counting")
def neither_divides(rng: Random) -> Problem:
    a, b = rng.choice(
        ((2, 3), (3, 5), (2, 5), (4, 6), (6, 9), (3, 7), (4, 10), (5, 7), (6, 8), (2, 7))
    )
    n = rng.randint(5, 40) * 10 + rng.choice((0, 0, 0, 3, 7))
    lcm = a * b // _gcd(a, b)

    def solve(g: Graph) -> None:
        counts = {}
        for key, d in (("a", a), ("b", b)):
            counts[key] = g.whole(
                key, (f"the number of multiples of ${d}$", f"how many are divisible by ${d}$"),
                f"\\lfloor \\frac{{{n}}}{{{d}}} \\rfloor", n // d,
                slips=[slip(f"\\lfloor \\frac{{{n}}}{{{d}}} \\rfloor + 1", n // d + 1,
                            "the count begins at $1$ and *not* at $0$", kind="off_by_one")],
            )  # fmt: skip
        both_d = a * b if lcm == a * b else lcm
        step = g.whole(
            "lcm", (f"the least common multiple of ${a}$ and ${b}$",), f"\\mathrm{{lcm}}({a}, "
                                                                       f"{b})", both_d,
            why=(f"*both* ${a}$ and ${b}$ have to divide the number",),
            slips=[slip(f"{a} \\cdot {b}", a * b, f"${a}$ and ${b}$ have a common factor",
                        "the product counts their common factor twice")] if lcm != a * b else (),
        )  # fmt: skip
        both = g.whole(
            "both", ("the number of common multiples", "how many are divisible by *both*"),
            f"\\lfloor \\frac{{{n}}}{{{step}}} \\rfloor", n // step, "lcm")  # fmt: skip
        either = g.whole(
            "either", (f"the number of multiples of ${a}$ or ${b}$", "the size of the union"),
            f"{counts['a']} + {counts['b']} - {both}", counts["a"] + counts["b"] - both, "a b both",
            why=("the common multiples have been counted twice",
                 "those divisible by *both* are in *each* of the two counts"),
            slips=[slip(f"{counts['a']} + {counts['b']}", counts["a"] + counts["b"],
                        "the common multiples are counted twice then",
                        "numbers divisible by *both* may be counted *only* once")],
        )  # fmt: skip
        g.value(
            "answer", ("the number of integers divisible by *neither*", "what remains"),
            f"{n} - {either}", n - either, "either",
            why=(f"*neither* ${a}$ *nor* ${b}$ may divide them",),
        )  # fmt: skip

    union = n // a + n // b - n // lcm
    return Problem(
        "neither_divides",
        f"How many of the integers from $1$ to ${n}$ are divisible by neither ${a}$ nor ${b}$?",
        str(n - union), (f"the number of integers divisible by neither ${a}$ nor ${b}$",
                         "the number of such integers"), solve, "answer",
        conditions=(f"the integers run from $1$ to ${n}$, *both* included",
                    f"*neither* ${a}$ *nor* ${b}$ may divide the number"),
        dead=((f"maybe the share is $(1 - \\frac{{1}}{{{a}}})(1 - \\frac{{1}}{{{b}}})$",
               f"times ${n}$ that gives ${tex(n * Fraction(a - 1, a) * Fraction(b - 1, b))}$",
               f"this holds exactly *only if* ${lcm}$ divides ${n}$ and the two have no common "
               "factor"),
              ("write down the first few", "they begin with "
               + ", ".join(f"${i}$" for i in [j for j in range(1, 40) if j % a and j % b][:5]),
               f"going on like that to ${n}$ is too long")),
        checks=(f"in *each* block of ${lcm}$ there are ${lcm - lcm // a - lcm // b + 1}$ such "
                "numbers",
                f"${union} + {n - union} = {n}$"),
        other=(
            f"*only* ${a}$, but not ${b}$, divides ${n // a} - {n // lcm} = {n // a - n // lcm}$ "
            "numbers",
            f"*only* ${b}$, but not ${a}$, divides ${n // b} - {n // lcm} = {n // b - n // lcm}$",
            f"both divide ${n // lcm}$",
            f"so ${n} - {n // a - n // lcm} - {n // b - n // lcm} - {n // lcm} = {n - union}$ "
            "remain",
        ),
        remarks=(f"${n // lcm * lcm}$ is the largest common multiple in range",
                 f"${n // a * a}$ is the last multiple of ${a}$",
                 f"${n // b * b}$ is the last multiple of ${b}$"),
    )  # fmt: skip


def _gcd(a: int, b: int) -> int:
    return a if b == 0 else _gcd(b, a % b)
