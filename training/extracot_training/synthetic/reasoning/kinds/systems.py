"""Algebra: systems of equations, and formulas in symbols."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, tex
from extracot_training.synthetic.reasoning.kinds.registry import kind, misread, slip


@kind("linear_system", "algebra")
def linear_system(rng: Random) -> Problem:
    first, second, count, sum_word = rng.choice((
        ("adult tickets", "child tickets", "tickets", "euros"),
        ("pens", "notebooks", "items", "coins"),
        ("large boxes", "small boxes", "boxes", "kilograms"),
        ("cars", "motorcycles", "vehicles", "wheels"),
        ("spiders", "beetles", "animals", "legs"),
    ))  # fmt: skip
    p, q = {"wheels": (4, 2), "legs": (8, 6)}.get(sum_word, (rng.randint(5, 15), rng.randint(2, 9)))
    if p <= q:
        raise Reject
    x, y = rng.randint(3, 30), rng.randint(3, 30)
    n, total = x + y, p * x + q * y
    s, t = rng.choice((("x", "y"), ("a", "b"), ("m", "n"), ("u", "v")))
    each = {"wheels": "have", "legs": "have"}.get(sum_word, "count for")

    def solve(g: Graph) -> None:
        first_form, second_form = f"{s} + {t} = {n}", f"{p}{s} + {q}{t} = {total}"
        swapped = f"{q}{s} + {p}{t} = {total}"
        g.claim(
            "count",
            (f"if ${s}$ is the {{number of {first}}} and ${t}$ the {{number of {second}}}, "
             f"${first_form}$",
             f"let ${s}$ and ${t}$ be the numbers of {{{first}}} and {{{second}}}; so "
             f"${first_form}$",
             f"${first_form}$, with ${s}$ {{{first}}} and ${t}$ {{{second}}}"), value=first_form,
        )  # fmt: skip
        shape = g.claim(
            "total",
            (f"counting {{{sum_word}}}, ${second_form}$", f"the {{{sum_word}}} give "
                                                          f"${second_form}$",
             f"the second equation is ${second_form}$"), "count", value=second_form,
            slips=[misread((f"counting {sum_word}, ${swapped}$", f"the {sum_word} give "
                                                                 f"${swapped}$"),
                           swapped, f"I swapped the two numbers, it's the {first} that {each} "
                                    f"${p}$",
                           f"${p}$ belongs to the {first} and *not* to the {second}")],
        )  # fmt: skip
        high, low = (p, q) if shape == second_form else (q, p)
        g.claim(
            "replace", (f"${t} = {n} - {s}$", f"I can replace ${t}$ by ${n} - {s}$",
                        f"from the first equation, ${t} = {n} - {s}$"), "count",
            value=f"{t} = {n} - {s}",
        )  # fmt: skip
        low_all = g.whole(
            "base", (f"the {sum_word} if *all* were {second}", f"the number of {sum_word} with "
                                                               f"${s} = 0$"),
            (f"{low} \\cdot {n}",), low * n, "total replace",
        )  # fmt: skip
        extra = g.whole(
            "extra", (f"the surplus of {sum_word}", f"what the {first} add"),
            (f"{total} - {low_all}",), total - low_all, "base",
        )  # fmt: skip
        each_more = g.whole("each", (f"the difference for *each* of the {first}", "the factor "
                                                                                  f"of ${s}$"),
                            (f"{high} - {low}",), high - low, "total replace",
                            slips=[slip(f"{high} + {low}", high + low,
                                        "replacing one by the other changes the sum by the "
                                        "*difference*",
                                        "those two have to be subtracted")])  # fmt: skip
        value = Fraction(extra, each_more)
        if value <= 0:
            raise Reject
        g.value("x", (f"the number of {first}",), (f"\\frac{{{extra}}}{{{each_more}}}",), value,
                "extra each", symbol=s)  # fmt: skip

    return Problem(
        "linear_system",
        f"There are ${n}$ {count}: {first} and {second}. The {first} {each} ${p}$ {sum_word} "
        "each and the "
        f"{second} {each} ${q}$ {sum_word} each, and together that makes ${total}$ {sum_word}. "
        f"How many {first} are there?",
        str(x), (f"the number of {first}", f"how many {first} there are"), solve, "x",
        conditions=(f"there are ${n}$ {count} in all", f"*each* of the {first} stands for ${p}$",
                    f"*each* of the {second} stands for ${q}$",
                    f"together it's ${total}$ {sum_word}"),
        dead=((f"suppose half of the {count} were {first}", f"that would be about ${n // 2}$",
               f"and the {sum_word} would be ${p * (n // 2) + q * (n - n // 2)}$",
               f"that's not ${total}$, and I'd have to adjust again and again"),
              (f"maybe I should divide ${total}$ by ${n}$", f"each would have "
               f"${tex(Fraction(total, n))}$ on average", "an average doesn't tell the numbers "
                                                          "at once"),
              ("I could add the two equations", f"that gives ${p + 1}{s} + {q + 1}{t} = "
                                                 f"{total + n}$",
               "neither of the unknowns goes away")),
        checks=(f"${p} \\cdot {x} + {q} \\cdot {y} = {total}$", f"${x} + {y} = {n}$",
                f"${x}$ {first} and ${y}$ {second} are ${n}$ {count}"),
        other=(
            f"if all ${n}$ were {first}, there would be ${p} \\cdot {n} = {p * n}$ {sum_word}",
            f"that's ${p * n} - {total} = {p * n - total}$ too many",
            f"each of the {second} saves ${p - q}$, so there are "
            f"${tex(Fraction(p * n - total, p - q))}$ of those",
            f"and ${n} - {y} = {x}$ {first}",
        ),
        remarks=(f"if *all* were {first}, there would be ${p * n}$ {sum_word}",
                 f"the difference of the two rates is ${p - q}$"),
    )  # fmt: skip


@kind("formula_rearranged", "algebra")
def formula_rearranged(rng: Random) -> Problem:
    p, q = rng.randint(2, 9), rng.randint(2, 9)
    y, x = rng.choice((("P", "l"), ("S", "r"), ("y", "x"), ("T", "h"), ("F", "c")))
    d = rng.randint(2, 7)
    whole = f"{y} = \\frac{{{p}{x} + {q}}}{{{d}}}"

    def solve(g: Graph) -> None:
        first = f"{d}{y} = {p}{x} + {q}"
        partly = f"{y} = {p}{x} + \\frac{{{q}}}{{{d}}}"
        found = g.claim(
            "multiplied",
            (f"multiplying *both* sides by ${d}$ gives ${first}$", f"${first}$, once the "
                                                                   "fraction is gone",
             f"without the fraction it reads ${first}$"),
            value=first,
            slips=[misread((f"this is ${partly}$",), partly, "the *whole* numerator is divided "
                                                             f"by ${d}$",
                           f"the ${d}$ stands below ${p}{x}$, too")],
        )  # fmt: skip
        if found == first:
            second, bad = f"{p}{x} = {d}{y} - {q}", f"{p}{x} = {d}{y} + {q}"
            expr, bad_expr = f"\\frac{{{d}{y} - {q}}}{{{p}}}", f"\\frac{{{d}{y} + {q}}}{{{p}}}"
        else:
            second, bad = f"{p}{x} = {y} - \\frac{{{q}}}{{{d}}}", "-"
            expr, bad_expr = f"\\frac{{{y}}}{{{p}}} - \\frac{{{q}}}{{{p * d}}}", "-"
        isolated = g.claim(
            "isolated",
            (f"subtracting gives ${second}$", f"so ${second}$", "bringing the constant over, "
                                                                f"${second}$"),
            "multiplied", value=second,
            slips=[misread((f"bringing the constant over, ${bad}$",), bad,
                           f"the ${q}$ has to be *subtracted*", f"${q}$ changes its sign there")],
        )  # fmt: skip
        result = expr if isolated == second else bad_expr
        g.claim(
            "solved", (f"dividing by ${p}$ gives ${x} = {result}$", f"${x} = {result}$",
                       f"hence ${x} = {result}$ after dividing by ${p}$"),
            "isolated", value=result, what=(f"${x}$ in terms of ${y}$",),
        )  # fmt: skip

    answer = f"\\frac{{{d}{y} - {q}}}{{{p}}}"
    at = rng.randint(1, 9)
    return Problem(
        "formula_rearranged", f"Given ${whole}$, express ${x}$ in terms of ${y}$.", answer,
        (f"${x}$ in terms of ${y}$", f"a formula for ${x}$"), solve, "solved",
        conditions=(f"${whole}$", f"it's ${x}$ that must stand *alone*", f"${x}$ may *not* occur "
                                                                         "on the other side"),
        dead=((f"put in numbers, say ${x} = {at}$", f"${y} = {tex(Fraction(p * at + q, d))}$",
               "one pair of numbers doesn't make a formula"),
              ("split the fraction into two", f"${y} = \\frac{{{p}{x}}}{{{d}}} + "
                                              f"\\frac{{{q}}}{{{d}}}$",
               "that makes it longer and not simpler")),
        checks=(f"for ${x} = {at}$ the given formula has ${y} = {tex(Fraction(p * at + q, d))}$, "
                "and "
                f"putting this in gives ${at}$ back",),
        remarks=(f"${y}$ grows by ${tex(Fraction(p, d))}$ when ${x}$ grows by one",
                 f"at ${x} = 0$ one has ${y} = {tex(Fraction(q, d))}$"),
    )  # fmt: skip
