"""Rates: work done together, and journeys."""

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
        other=(
            f"let the job consist of ${a * b}$ equal pieces",
            f"then {one} does ${b}$ and {two} ${a}$ per {unit[:-1]}, together ${a + b}$",
            *((f"{one} has done ${alone} \\cdot {b} = {alone * b}$ before, so "
               f"${a * b - alone * b}$ are left",)
              if late else ()),
            f"it takes $\\frac{{{a * b - alone * b}}}{{{a + b}}} = {tex(answer)}$ {unit}",
        ),
        remarks=(f"{one if a < b else two} is the quicker one",
                 f"alone {one} would need ${tex(left * a)}$ {unit} for what is left"),
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
        other=(
            f"out of ${2 * way}$ km the first half takes ${tex(Fraction(way, v))}$ hours",
            f"the second half takes ${tex(Fraction(way, w))}$",
            *((f"with the rest that's ${tex(2 * way / answer)}$ hours",) if pause else
              (f"by the harmonic mean, $\\frac{{2 \\cdot {v} \\cdot {w}}}{{{v} + {w}}} = "
               f"{tex(answer)}$",)),
        ),
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
        other=(
            f"seen from the truck, the bus comes closer by ${v + w}$ km *each* hour",
            f"at ${tex(time)}$ hours the truck has driven ${tex(time + start)} \\cdot {v} = "
            f"{tex((time + start) * v)}$ km",
            f"that leaves ${gap} - {tex((time + start) * v)} = {tex(answer)}$ km to ${b}$",
        ),
        remarks=(f"the bus alone would need ${tex(Fraction(gap, w))}$ hours for the whole way",
                 f"the {'truck' if v > w else 'bus'} is the faster one"),
        unit="km",
    )  # fmt: skip
