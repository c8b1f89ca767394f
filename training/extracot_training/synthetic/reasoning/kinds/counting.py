"""Counting and probability: orders with restrictions, choices, inclusion and exclusion, draws."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial, perm
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, tex
from extracot_training.synthetic.reasoning.kinds.registry import NAMES, kind, slip

WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}


@kind("not_at_the_ends", "counting")
def not_at_the_ends(rng: Random) -> Problem:
    n = rng.randint(5, 8)
    a, b = rng.sample(NAMES, 2)
    what, place = rng.choice((("stand in a row for a photo", "place"), ("sit on a bench", "seat"),
                              ("give talks one after the other", "slot"), ("queue up", "place"),
                              ("run one after the other in a relay", "leg")))  # fmt: skip
    second = rng.choice((None, "first", "last"))

    def solve(g: Graph) -> None:
        places = g.whole(
            "places", (f"the number of {place}s for {a}", f"the {place}s that are open to {a}"),
            f"{n} - 2", n - 2,
            why=(f"{a} can be *neither* first *nor* last", f"{a} can*not* be first or last",
                 f"{a} must *not* be at *either* end"),
            slips=[slip(f"{n} - 1", n - 1, f"{a} can be *neither* first *nor* last, so two "
                                           f"{place}s go",
                        "*both* ends are forbidden", kind="misreading"),
                   slip(f"{n}", n, f"{a} may *not* take the ends", kind="misreading")],
        )  # fmt: skip
        rest = g.whole(
            "rest", (f"the number of orders of the other {WORDS[n - 1]}", "the orders of the "
                                                                          "others"),
            (f"{n - 1}!", " \\cdot ".join(str(i) for i in range(n - 1, 0, -1))), factorial(n - 1),
            why=(f"the others may take the remaining {place}s in *any* order",),
            slips=[slip(f"{n}!", factorial(n), f"{a} is placed already, only ${n - 1}$ people "
                                               "are left",
                        kind="off_by_one")],
        )  # fmt: skip
        total = g.whole(
            "total", (f"the number of orders in which {a} is *not* at an end",
                      f"the orders that respect the rule for {a}"),
            f"{places} \\cdot {rest}", places * rest, "places rest",
            slips=[slip(f"{places} + {rest}", places + rest,
                        "for *each* place there are all those orders, so they're multiplied")],
        )  # fmt: skip
        if second is not None:
            bad = g.whole(
                "bad", (f"the number of those orders in which {b} is {second}",
                        f"the ones with {b} {second}"),
                f"{places} \\cdot {n - 2}!", places * factorial(n - 2), "places",
                why=(f"with {b} {second} there are ${n - 2}$ people left besides {a}",),
                slips=[slip(f"{places} \\cdot {n - 1}!", places * factorial(n - 1),
                            f"{b} is fixed as well, so only ${n - 2}$ others can move",
                            kind="off_by_one")],
            )  # fmt: skip
            g.value(
                "answer", ("the number of allowed orders", "what remains"), f"{total} - {bad}",
                total - bad, "total bad",
                why=(f"{b} must *not* be {second}", f"the orders with {b} {second} are *not* "
                                                    "allowed"),
            )  # fmt: skip

    answer = (n - 2) * factorial(n - 1) - ((n - 2) * factorial(n - 2) if second else 0)
    extra = f", and {b} must not be {second}" if second else ""
    return Problem(
        "not_at_the_ends",
        f"{WORDS[n].capitalize()} people, among them {a} and {b}, {what}. {a} can't be first or "
        f"last{extra}. "
        "In how many orders is this possible?",
        str(answer), ("the number of allowed orders", "the number of orders"), solve,
        "answer" if second else "total",
        conditions=(f"{a} can*not* be first or last", f"there are ${n}$ people",
                    *((f"{b} must *not* be {second}",) if second else ("there is *no* other "
                                                                       "rule",))),
        dead=(("I could list the orders one by one", f"there are ${factorial(n)}$ orders without "
                                                     "any rule",
               "that's far too many to list"),
              (f"start from all ${factorial(n)}$ orders and take half", "by some symmetry half "
                                                                        "of them "
               "should be fine", "there is *no* such symmetry here"),
              (f"what if {a} is in the middle", f"there are ${factorial(n - 1)}$ orders",
               "the middle is *only* one of the possibilities")),
        checks=((f"from all ${factorial(n)}$ orders take away ${2 * factorial(n - 1)}$ with {a} "
                 "at an end, "
                 f"which leaves ${(n - 2) * factorial(n - 1)}$",)),
        other=(
            f"all together there are ${n}! = {factorial(n)}$ orders",
            f"with {a} first there are ${n - 1}! = {factorial(n - 1)}$ of them, and as many with "
            f"{a} last",
            f"taking these away leaves ${factorial(n)} - {2 * factorial(n - 1)} = "
            f"{factorial(n) - 2 * factorial(n - 1)}$",
            *((f"of these, ${n - 2} \\cdot {factorial(n - 2)} = {(n - 2) * factorial(n - 2)}$ "
               f"have {b} "
               f"{second}", f"which leaves ${answer}$") if second else ()),
        ),
        remarks=(f"without any rule there would be ${factorial(n)}$ orders",
                 f"the share of the allowed orders is ${tex(Fraction(answer, factorial(n)))}$"),
    )  # fmt: skip


@kind("committee", "counting")
def committee(rng: Random) -> Problem:
    men, women, size = rng.randint(4, 8), rng.randint(3, 7), rng.randint(3, 4)
    one, other = rng.choice((("teachers", "students"), ("women", "men"), ("doctors", "nurses"),
                             ("red balls", "blue balls"), ("juniors", "seniors")))  # fmt: skip
    n = men + women
    two = rng.random() < 0.45

    def solve(g: Graph) -> None:
        total = g.whole(
            "total", ("the number of *all* choices", "the choices without any condition"),
            f"\\binom{{{n}}}{{{size}}}", comb(n, size),
            why=("the order does *not* matter",),
            slips=[slip(" \\cdot ".join(str(n - i) for i in range(size)), perm(n, size),
                        "the order does *not* matter in a choice", "that counts *ordered* "
                                                                   "choices")],
        )  # fmt: skip
        none = g.whole(
            "none", (f"the number of choices with *no* {one}", f"the choices *without* {one}"),
            f"\\binom{{{men}}}{{{size}}}", comb(men, size),
            why=(f"then *all* come from the ${men}$ {other}",),
            slips=[slip(f"\\binom{{{women}}}{{{size}}}", comb(women, size),
                        f"*without* {one} they have to come from the {other}", kind="misreading")]
            if women >= size else (),
        )  # fmt: skip
        bad, deps = none, "none"
        if two:
            single = g.whole(
                "single", (f"the number of choices with *exactly* one of the {one}",),
                f"{women} \\cdot \\binom{{{men}}}{{{size - 1}}}", women * comb(men, size - 1),
                slips=[slip(f"\\binom{{{men}}}{{{size - 1}}}", comb(men, size - 1),
                            f"the one can be *any* of the ${women}$")],
            )  # fmt: skip
            bad = g.whole("bad", (f"the number of choices with *fewer* than two {one}",),
                          f"{none} + {single}", none + single, "none single")  # fmt: skip
            deps = "bad"
        g.value(
            "answer", (f"the number of choices with *at least* {'two' if two else 'one'} of the "
                       f"{one}",
                       "the number of allowed choices"),
            f"{total} - {bad}", total - bad, f"total {deps}",
            why=(f"*at least* {'two' if two else 'one'} is the opposite of "
                 f"{'*at most* one' if two else '*none*'}",
                 "the complement is easier to count"),
        )  # fmt: skip

    answer = comb(n, size) - comb(men, size) - (women * comb(men, size - 1) if two else 0)
    least = 2 if two else 1
    cases = " + ".join(
        f"{comb(women, i) * comb(men, size - i)}" for i in range(least, min(size, women) + 1)
    )
    return Problem(
        "committee",
        f"From ${women}$ {one} and ${men}$ {other}, ${size}$ are chosen. In how many ways can "
        "this be done "
        f"if at least {'two' if two else 'one'} of the {one} must be among them?",
        str(answer), ("the number of allowed choices", "the number of ways"), solve, "answer",
        conditions=(f"*at least* {'two' if two else 'one'} of the {one} must be chosen",
                    f"${size}$ are chosen in all", f"there are ${women}$ {one} and ${men}$ "
                                                   f"{other}"),
        dead=((f"first choose one of the {one}, there are ${women}$ ways",
               f"choose the other ${size - 1}$ from the remaining ${n - 1}$, "
               f"that's ${comb(n - 1, size - 1)}$ ways",
               f"multiplied it would be ${women * comb(n - 1, size - 1)}$",
               f"choices with several of the {one} are counted more than once that way"),
              ("list the choices", f"there are ${comb(n, size)}$ of them", "too long a list")),
        checks=(f"by cases it is ${cases}$, which is ${answer}$ as well",),
        other=(
            "going by cases, the number of those from the first group is counted up",
            *(f"with ${i}$ of the {one} there are $\\binom{{{women}}}{{{i}}} \\cdot "
              f"\\binom{{{men}}}{{{size - i}}} = {comb(women, i) * comb(men, size - i)}$ choices"
              for i in range(least, min(size, women) + 1)),
            f"added up, ${cases} = {answer}$",
        ),
        remarks=(f"there are ${comb(women, 2)}$ pairs of {one}",
                 f"$\\binom{{{n}}}{{{size}}} = \\binom{{{n}}}{{{n - size}}}$",
                 f"the {other} alone could be chosen in ${comb(men, size)}$ ways"),
    )  # fmt: skip


@kind("even_numbers", "counting")
def even_numbers(rng: Random) -> Problem:
    digits = sorted(rng.sample(range(1, 10), rng.randint(4, 6)))
    with_zero = rng.random() < 0.7
    if with_zero:
        digits = [0, *digits[:-1]]
    n = len(digits)
    even = [d for d in digits if d % 2 == 0]
    odd_first = len([d for d in digits if d])
    if not 2 <= len(even) <= n - 1 or (not with_zero and n < 4):
        raise Reject
    shown = ", ".join(f"${d}$" for d in digits)

    def solve(g: Graph) -> None:
        if with_zero:
            zero = g.whole(
                "zero", ("the number of those ending in $0$", "the case that the last digit is "
                                                              "$0$"),
                f"{n - 1} \\cdot {n - 2}", (n - 1) * (n - 2),
                why=("with $0$ at the end the first two digits are free *except* for repeats",),
                slips=[slip(f"{n} \\cdot {n - 1}", n * (n - 1), "the $0$ is used up, *no* digit "
                                                                "may repeat",
                            kind="off_by_one")],
            )  # fmt: skip
            ends = g.whole(
                "ends", ("the number of other even last digits",), f"{len(even)} - 1", len(even) - 1
            )
            first = g.whole(
                "first", ("the number of first digits in the other case",), f"{n} - 2", n - 2,
                why=("the first digit can be *neither* $0$ *nor* the last digit",),
                slips=[slip(f"{n} - 1", n - 1, "the first digit can*not* be $0$ either",
                            "a leading $0$ is *not* allowed", kind="misreading")],
            )  # fmt: skip
            middle = g.whole("middle", ("the number of middle digits",), f"{n} - 2", n - 2,
                             why=("two digits are used already",))  # fmt: skip
            other = g.whole(
                "other",
                ("the number of those with another even digit at the end",),
                f"{ends} \\cdot {first} \\cdot {middle}",
                ends * first * middle,
                "ends first middle",
            )
            g.value("answer", ("the number of even numbers", "the total"), f"{zero} + {other}",
                    zero + other, "zero other",
                    why=("*either* the last digit is $0$ *or* it is *not*",))  # fmt: skip
        else:
            ends = g.whole("ends", ("the number of choices for the last digit",),
                           f"{len(even)}", len(even), why=("the last digit must be "
                                                           "*even*",))  # fmt: skip
            rest = g.whole(
                "rest", ("the number of choices for the other two digits",),
                f"{n - 1} \\cdot {n - 2}", (n - 1) * (n - 2), why=("*no* digit may repeat",),
                slips=[slip(f"{n} \\cdot {n}", n * n, "*no* digit may be used twice",
                            "the digits must be *different*", kind="misreading")],
            )  # fmt: skip
            g.value("answer", ("the number of even numbers", "the total"), f"{ends} \\cdot {rest}",
                    ends * rest, "ends rest")  # fmt: skip

    if with_zero:
        answer = (n - 1) * (n - 2) + (len(even) - 1) * (n - 2) * (n - 2)
    else:
        answer = len(even) * (n - 1) * (n - 2)
    every = odd_first * (n - 1) * (n - 2)
    return Problem(
        "even_numbers",
        "How many even three-digit numbers with different digits can be formed from the digits "
        f"{shown}?",
        str(answer), ("the number of even numbers", "how many such numbers there "
                                                    "are"), solve, "answer",
        conditions=("*no* digit may be used twice", "the number must be *even*",
                    "a number does *not* begin with $0$" if with_zero else "*all* digits are "
                                                                           "positive"),
        dead=(("begin with the first digit", f"it has ${odd_first}$ possibilities",
               "what is left for the last digit depends on whether the first one was even",
               "that splits into many cases"),
              (f"half of all ${every}$ numbers might be even", "that would be "
                                                               f"${tex(Fraction(every, 2))}$",
               "even and odd digits are *not* equally many")),
        checks=(f"there are ${every}$ numbers in all, and ${every - answer}$ of them are odd",),
        other=(
            f"all in all there are ${odd_first} \\cdot {n - 1} \\cdot {n - 2} = {every}$ numbers",
            f"the odd ones are ${every - answer}$, as one sees by starting with the last digit",
            f"${every} - {every - answer} = {answer}$",
        ),
        remarks=(f"with *no* condition of evenness there would be ${every}$",
                 f"the smallest of them begins with ${min(d for d in digits if d)}$"),
    )  # fmt: skip
