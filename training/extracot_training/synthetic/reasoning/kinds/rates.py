"""Rates, mixtures, percentages and journeys."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, tex
from extracot_training.synthetic.reasoning.kinds.registry import NAMES, kind, slip

JOBS = (
    ("paint a fence", "hours"),
    ("mow a meadow", "hours"),
    ("sort the mail", "minutes"),
    ("clean the hall", "hours"),
    ("peel the potatoes", "minutes"),
)


@kind("work_together", "rates")
def work_together(rng: Random) -> Problem:
    a, b = rng.sample(range(2, 16), 2)
    one, two = rng.sample(NAMES, 2)
    job, unit = rng.choice(JOBS)
    late = rng.random() < 0.5 and a > 2
    alone = rng.randint(1, a - 1) if late else 0

    def solve(g: Graph) -> None:
        rates = []
        for key, who, time in (("a", one, a), ("b", two, b)):
            rates.append(g.number(
                f"rate_{key}", (f"the part of the job that {who} does per "
                                f"{unit[:-1]}", f"{who}'s rate"),
                f"\\frac{{1}}{{{time}}}", Fraction(1, time), why=(f"{who} needs ${time}$ {unit} "
                                                                  "*alone*",),
            ))  # fmt: skip
        rest = Fraction(1)
        deps = "sum"
        if late:
            done = g.number("done", (f"the part that {one} does *before* {two} comes",),
                            f"{alone} \\cdot "
                            f"{tex(rates[0])}", alone * rates[0], "rate_a")  # fmt: skip
            rest = g.number(
                "rest", ("the part that is left",), f"1 - {tex(done)}", 1 - done, "done",
                why=("the *whole* job counts as one",),
            )  # fmt: skip
            if rest <= 0:
                raise Reject
            deps += " rest"
        both = g.number(
            "sum", ("the common rate", "the part they do together per unit of time"),
            f"{tex(rates[0])} + {tex(rates[1])}", rates[0] + rates[1], "rate_a rate_b",
            why=("*both* work at the same time, so the rates add up",),
            slips=[slip(f"\\frac{{1}}{{{a} + {b}}}", Fraction(1, a + b),
                        "the *rates* are to be added and *not* the times",
                        "together they can*not* be slower than alone")],
        )  # fmt: skip
        g.value(
            "time", ("the time they need together", f"the time in {unit}"),
            f"{tex(rest)} \\div {tex(both)}", rest / both, deps, unit=unit,
            why=("time is work divided by rate",),
            slips=[slip(f"{tex(rest)} \\cdot {tex(both)}", rest * both,
                        "the work has to be *divided* by the rate", "a rate times work is no "
                                                                    "time")],
        )  # fmt: skip

    left = 1 - Fraction(alone, a)
    answer = left / (Fraction(1, a) + Fraction(1, b))
    story = (
        f"{one} can {job} alone in ${a}$ {unit}, {two} in ${b}$ {unit}. "
        + (f"{one} works alone for ${alone}$ {unit if alone > 1 else unit[:-1]}, then {two} "
           "joins. How many more "
           f"{unit} do they need together?" if late else f"How many {unit} do they need together?")
    )  # fmt: skip
    return Problem(
        "work_together", story, tex(answer), ("the time they need together",), solve, "time",
        conditions=(f"{one} needs ${a}$ {unit} *alone*", f"{two} needs ${b}$ {unit} *alone*",
                    *((f"{two} is *not* there in the first ${alone}$ {unit}",) if late else ())),
        dead=((f"take the mean of ${a}$ and ${b}$", f"that is ${tex(Fraction(a + b, 2))}$",
               "together they must be quicker than either of them, so no mean will do"),
              (f"say the job has ${a * b}$ pieces", f"{one} does ${b}$ of them per {unit[:-1]} "
                                                    f"and {two} ${a}$",
               "that would work as well, but I'd rather stay with fractions")),
        checks=(f"in that time {one} does ${tex(answer / a)}$ and {two} does ${tex(answer / b)}$ "
                "of the job, "
                f"which makes ${tex(left)}$",),
        remarks=(f"{one if a < b else two} is the quicker one",
                 f"alone {one} would need ${tex(left * a)}$ {unit} for what is left"),
        unit=unit,
    )  # fmt: skip


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
        remarks=(f"in all it's a change of ${tex((change - 1) * 100)}\\%$",
                 "the order of the two changes does *not* matter"),
        unit=unit,
    )  # fmt: skip


@kind("round_trip", "rates")
def round_trip(rng: Random) -> Problem:
    v, w = rng.sample((4, 5, 6, 10, 12, 15, 18, 20, 24, 30, 36, 40, 45, 60, 80, 90), 2)
    way = rng.choice((6, 12, 18, 24, 30, 36, 60, 72, 90, 120, 180))
    who = rng.choice(NAMES)
    pause = rng.choice((0, 0, 1, 2))

    def solve(g: Graph) -> None:
        out = g.number("out", ("the time for the way "
                               "there",), f"\\frac{{{way}}}{{{v}}}", Fraction(way, v),
                       unit="hours",
                       slips=[slip(f"\\frac{{{v}}}{{{way}}}", Fraction(v, way),
                                   "time is distance over speed, *not* the other way "
                                   "round")])  # fmt: skip
        back = g.number("back", ("the time for the way "
                                 "back",), f"\\frac{{{way}}}{{{w}}}", Fraction(way, w),
                        unit="hours")  # fmt: skip
        total = g.number(
            "total", ("the total time",), f"{tex(out)} + "
                                          f"{tex(back)}" + (f" + {pause}" if pause else ""),
            out + back + pause, "out back", unit="hours",
            why=(f"the break of ${pause}$ h counts, *too*",) if pause else (),
            slips=[slip(f"{tex(out)} + {tex(back)}", out + back, "the break belongs to the "
                                                                 "journey, *too*",
                        "I left out the break", kind="misreading")] if pause else (),
        )  # fmt: skip
        length = g.whole(
            "length", ("the total distance",), f"2 \\cdot {way}", 2 * way, unit="km",
            why=("the way is covered *twice*",),
            slips=[slip(f"{way}", way, "it's there *and* back, so twice the distance",
                        "the way back has to be counted, *too*", kind="misreading")],
        )  # fmt: skip
        g.value(
            "speed", ("the average speed",), f"{length} \\div "
                                             f"{tex(total)}", length / total, "length total",
            unit="km/h", why=("average speed is the *whole* distance over the *whole* time",),
            slips=[slip(f"\\frac{{{v} + {w}}}{{2}}", Fraction(v + w, 2),
                        "the mean of the speeds is *not* the average speed, since the times differ",
                        f"{who} spends *more* time at the lower speed")],
        )  # fmt: skip

    answer = 2 * way / (Fraction(way, v) + Fraction(way, w) + pause)
    stop = f", rests for ${pause}$ {'hour' if pause == 1 else 'hours'}," if pause else ""
    return Problem(
        "round_trip",
        f"{who} travels ${way}$ km at ${v}$ km/h{stop} and comes back on the same way at ${w}$ "
        "km/h. What is the "
        f"average speed of the whole trip{', the rest included' if pause else ''}, in km/h?",
        tex(answer), ("the average speed",), solve, "speed",
        conditions=(f"the way there is ${way}$ km at ${v}$ km/h", f"the way back is at ${w}$ km/h",
                    *(("the rest counts as time, *too*",) if pause else ("there's *no* rest in "
                                                                         "between",))),
        dead=((f"the speeds differ by ${abs(v - w)}$", "half of that is "
                                                       f"${tex(Fraction(abs(v - w), 2))}$",
               "adding this to the smaller one is the plain mean again, and that ignores the "
               "times"),
              ("maybe the distance cancels", "without a rest it "
                                             "would" if pause else "it does, in a formula",
               "I have numbers anyway, so why bother")),
        checks=(f"at that speed ${2 * way}$ km take ${tex(2 * way / answer)}$ hours, as they did",),
        remarks=(f"the slower half takes ${tex(Fraction(way, min(v, w)))}$ hours",
                 f"the average lies *below* the mean ${tex(Fraction(v + w, 2))}$"),
        unit="km/h",
    )  # fmt: skip


@kind("meeting", "rates")
def meeting(rng: Random) -> Problem:
    v, w = rng.sample((12, 15, 18, 20, 24, 30, 40, 45, 50, 60, 70, 80, 90), 2)
    gap, start = rng.choice((60, 90, 120, 150, 180, 240, 300, 360)), rng.choice((0, 1, 2))
    a, b = rng.choice((("A", "B"), ("P", "Q"), ("M", "N")))
    if start * v >= gap:
        raise Reject

    def solve(g: Graph) -> None:
        left, deps = Fraction(gap), "closing"
        if start:
            ahead = g.number("ahead", ("the distance that the first one covers *before* the "
                                       "second starts",),
                             f"{start} \\cdot {v}", Fraction(start * v), unit="km",
                             slips=[slip(f"{start} \\cdot {w}", start * w,
                                         f"it's the one from ${a}$ that starts earlier, with "
                                         f"${v}$ km/h",
                                         kind="misreading")])  # fmt: skip
            left = g.number("left", ("the distance that is left between "
                                     "them",), f"{gap} - {tex(ahead)}",
                            gap - ahead, "ahead", unit="km")  # fmt: skip
            if left <= 0:
                raise Reject
            deps += " left"
        closing = g.whole(
            "closing", ("the speed at which they approach each "
                        "other",), f"{v} + {w}", v + w, unit="km/h",
            why=("they move *towards* each other",),
            slips=[slip(f"{max(v, w)} - {min(v, w)}", abs(v - w),
                        "they drive *towards* each other, so the speeds are *added*",
                        "the difference would be for the *same* direction", kind="misreading")],
        )  # fmt: skip
        time = g.number(
            "time", ("the time until they meet", "the time after the "
                                                 f"{'second' if start else 'common'} start"),
            f"\\frac{{{tex(left)}}}{{{closing}}}", left / closing, deps, unit="hours",
        )  # fmt: skip
        g.value(
            "place", (f"the distance of the meeting point from ${b}$",), f"{w} \\cdot "
                                                                         f"{tex(time)}", w * time,
            "time", unit="km", why=(f"the one from ${b}$ drives at ${w}$ km/h *all* that time",),
            slips=[slip(f"{v} \\cdot {tex(time)}", v * time,
                        f"the distance from ${b}$ is asked for, *not* from ${a}$",
                        f"${v}$ is the speed of the other one", kind="misreading")],
        )  # fmt: skip

    time = Fraction(gap - start * v, v + w)
    answer = w * time
    begin = f"${start}$ {'hour' if start == 1 else 'hours'} later" if start else "at the same time"
    return Problem(
        "meeting",
        f"The towns ${a}$ and ${b}$ are ${gap}$ km apart. A truck leaves ${a}$ for ${b}$ at "
        f"${v}$ km/h, and {begin} "
        f"a bus leaves ${b}$ for ${a}$ at ${w}$ km/h. How far from ${b}$, in km, do they meet?",
        tex(answer), (f"the distance of the meeting point from ${b}$",), solve, "place",
        conditions=(f"the distance is ${gap}$ km", f"the truck from ${a}$ drives at ${v}$ km/h",
                    f"the bus from ${b}$ drives at ${w}$ km/h and starts {begin}",
                    f"it's the distance from ${b}$ that is asked for, *not* from ${a}$"),
        dead=(("they might meet in the middle", f"that is at ${gap // 2}$ km",
               "this would need equal speeds and a common start"),
              (f"how long does the truck need for the whole way, $\\frac{{{gap}}}{{{v}}}$",
               f"that's ${tex(Fraction(gap, v))}$ hours", "it won't get that far before they "
                                                          "meet")),
        checks=(f"the truck has covered ${tex(gap - answer)}$ km by then, and "
                f"${tex(gap - answer)} + "
                f"{tex(answer)} = {gap}$",),
        remarks=(f"the bus alone would need ${tex(Fraction(gap, w))}$ hours for the whole way",
                 f"the {'truck' if v > w else 'bus'} is the faster one"),
        unit="km",
    )  # fmt: skip
