"""Number theory: divisors, remainders, last digits, common multiples."""

from __future__ import annotations

from math import gcd, lcm, prod
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject
from extracot_training.synthetic.reasoning.kinds.registry import kind, misread, slip


def factored(n: int) -> list[tuple[int, int]]:
    """Prime factors of ``n`` with their exponents, in order."""
    found = []
    p = 2
    while n > 1:
        exponent = 0
        while n % p == 0:
            n, exponent = n // p, exponent + 1
        if exponent:
            found.append((p, exponent))
        p += 1
    return found


@kind("divisor_count", "numbers")
def divisor_count(rng: Random) -> Problem:
    primes = rng.sample((2, 3, 5, 7), rng.choice((2, 3)))
    powers = {p: rng.randint(1, 3 if p < 5 else 2) for p in sorted(primes)}
    powers[2] = powers.get(2, 0) + 1
    powers = dict(sorted(powers.items()))
    n = prod(p**e for p, e in powers.items())
    if n > 9000 or n < 24 or len(powers) < 2:
        raise Reject
    ask = rng.choice(("even", "odd", "all"))
    shown = " \\cdot ".join(f"{p}^{{{e}}}" if e > 1 else f"{p}" for p, e in powers.items())
    word = {"even": "*even* ", "odd": "*odd* ", "all": ""}[ask]

    def solve(g: Graph) -> None:
        p0, e0 = next(iter(powers.items()))
        wrong = {**powers, p0: e0 - 1}
        wrong_shown = " \\cdot ".join(
            f"{p}^{{{e}}}" if e > 1 else f"{p}" for p, e in wrong.items() if e
        )
        found = g.claim(
            "factors",
            (f"${n} = {shown}$", f"the prime factorisation is ${n} = {shown}$",
             f"factoring gives ${n} = {shown}$", f"into primes, ${n} = {shown}$"),
            value=shown,
            slips=[misread((f"${n} = {wrong_shown}$", f"factoring gives ${n} = {wrong_shown}$"),
                           wrong_shown, f"there is one more factor ${p0}$ in ${n}$",
                           f"the product of that is only ${n // p0}$", kind="miscalculation")],
        )  # fmt: skip
        used = powers if found == shown else wrong
        parts, keys = [], []
        for p, e in used.items():
            if p == 2:
                if ask == "odd":
                    continue
                low = 1 if ask == "even" else 0
                number = e + 1 - low
                why = ("an even divisor must contain *at least* one factor $2$",
                       "the exponent of $2$ can*not* be $0$") if low else (
                       f"the exponent of $2$ runs from $0$ to ${e}$",)  # fmt: skip
                slips = [slip(f"{e} + 1", e + 1, "the exponent $0$ would give an *odd* divisor",
                              kind="misreading")] if low else [
                         slip(f"{e}", e, "the exponent $0$ counts as well",
                              kind="off_by_one")]  # fmt: skip
                expr = f"{e}" if low else f"{e} + 1"
            else:
                number, expr = e + 1, f"{e} + 1"
                why = (f"the exponent of ${p}$ runs from $0$ to ${e}$",)
                slips = [slip(f"{e}", e, f"the exponent of ${p}$ can be $0$, too",
                              "one must *not* forget the exponent "
                              "$0$", kind="off_by_one")]  # fmt: skip
            parts.append(g.whole(
                f"choices{p}", (f"the number of choices for the exponent of ${p}$",
                                f"what ${p}$ contributes"),
                expr, number, "factors", why=why, slips=slips,
            ))  # fmt: skip
            keys.append(f"choices{p}")
        if ask == "odd":
            g.claim("no_two", ("an odd divisor contains *no* factor $2$",
                               "the factor $2$ must *not* occur in an *odd* "
                               "divisor"), "factors")  # fmt: skip
            keys.append("no_two")
        total = 1
        for part in parts:
            total *= part
        expr = " \\cdot ".join(str(part) for part in parts)
        g.value("answer", (f"the number of {word}divisors",), expr, total, " ".join(keys),
                slips=[slip(" + ".join(str(part) for part in parts), sum(parts),
                            "independent choices are *multiplied*")]
                if len(parts) > 1 and sum(parts) != total else ())  # fmt: skip

    odd = prod(e + 1 for p, e in powers.items() if p != 2)
    every = prod(e + 1 for e in powers.values())
    answer = {"even": every - odd, "odd": odd, "all": every}[ask]
    plain = {"even": "even ", "odd": "odd ", "all": ""}[ask]
    return Problem(
        "divisor_count", f"How many {plain}positive divisors does ${n}$ have?", str(answer),
        (f"the number of {plain}divisors",), solve, "answer",
        conditions=(f"the number is ${n}$", f"*only* {plain}positive divisors count",
                    f"$1$ and ${n}$ are divisors, too"),
        dead=(("I could list the divisors one by one", f"$1$, $2$, ... up to ${n}$",
               "it's easy to miss one that way"),
              (f"check all numbers up to $\\sqrt{{{n}}}$", f"that is up to about ${int(n**0.5)}$",
               "that's a lot of divisions")),
        checks=(f"there are ${every}$ divisors in all, of which ${odd}$ are odd and "
                f"${every - odd}$ "
                "even",),
        remarks=(f"the largest odd divisor is ${n // 2 ** powers[2]}$",
                 f"half of it is ${n // 2}$", f"the digits of ${n}$ sum to "
                 f"${sum(map(int, str(n)))}$"),
    )  # fmt: skip


@kind("last_digit", "numbers")
def last_digit(rng: Random) -> Problem:
    base, exponent = rng.choice((2, 3, 7, 8, 12, 13, 17, 18, 23, 27)), rng.randint(15, 300)
    added = rng.randint(0, 1) * rng.randint(2, 9)
    digit = base % 10
    cycle = [pow(digit, i, 10) for i in range(1, 5)]
    shown = ", ".join(f"{d}" for d in cycle)
    number = f"{base}^{{{exponent}}}" + (f" + {added}" if added else "")

    def solve(g: Graph) -> None:
        wrong = [cycle[0], cycle[1], cycle[3], cycle[2]]
        wrong_shown = ", ".join(map(str, wrong))
        found = g.claim(
            "cycle",
            (f"the last digits of the powers of ${base}$ repeat: ${shown}$",
             f"the powers of ${base}$ end in ${shown}$ again and again",
             f"the last digits go ${shown}$, with period $4$"),
            value=shown,
            slips=[misread((f"the last digits go ${wrong_shown}$, with period $4$",), wrong_shown,
                           f"${cycle[1]} \\cdot {digit}$ ends in "
                           f"${cycle[2]}$", kind="miscalculation")]
            if wrong[2] != cycle[2] else (),
        )  # fmt: skip
        used = cycle if found == shown else wrong
        rest = g.whole(
            "rest", ("the remainder of the exponent", f"the remainder of ${exponent}$ by $4$"),
            f"{exponent} - 4 \\cdot {exponent // 4}", exponent % 4,
            why=("the period has length $4$", "*only* the place within the period matters"),
            slips=[slip(f"{exponent} - 10 \\cdot {exponent // 10}", exponent % 10,
                        "the period is $4$ and *not* "
                        "$10$")] if exponent % 10 != exponent % 4 else (),
        )  # fmt: skip
        if not 0 <= rest < 4:
            raise Reject
        place = used[rest - 1] if rest else used[3]
        zero = rest == 0
        g.claim(
            "digit",
            (f"remainder ${rest}$ means the {'last' if zero else 'same'} place in the period, so "
             f"${base}^{{{exponent}}}$ ends in ${place}$",
             f"so the last digit of ${base}^{{{exponent}}}$ is ${place}$",
             f"with remainder ${rest}$ the power ends in ${place}$"),
            "cycle rest", value=place, what=("the last digit of the power",),
            slips=[misread((f"with remainder ${rest}$ the power ends in "
                            f"${used[rest]}$",), used[rest],
                           "I was off by one place in the period",
                           "the first power has the exponent $1$ and *not* "
                           "$0$", kind="off_by_one")],
        )  # fmt: skip
        if added:
            place = int(str(g.facts["digit"].value))
            g.value("answer", ("the last digit of the sum",), f"({place} + {added}) \\bmod 10",
                    (place + added) % 10, "digit")  # fmt: skip

    answer = (pow(base, exponent, 10) + added) % 10
    return Problem(
        "last_digit", f"What is the last digit of ${number}$?", str(answer),
        ("the last digit", f"the last digit of ${number}$"), solve, "answer" if added else "digit",
        conditions=(f"the exponent is ${exponent}$", "*only* the last digit is asked for",
                    *((f"${added}$ is added at the end",) if added else ())),
        dead=((f"maybe compute ${base}^5 = {base**5}$ and go on from there",
               f"${base}^{{10}} = {base**10}$", "the numbers explode"),
              (f"write ${exponent}$ in binary", f"that is ${exponent:b}$",
               "repeated squaring works but takes more steps")),
        checks=(f"${base}^4$ ends in ${cycle[3]}$, so a multiple of $4$ in the exponent always "
                f"gives ${cycle[3]}$",),
        remarks=(f"${base}^2 = {base**2}$", "the exponent is "
                                            f"{'even' if exponent % 2 == 0 else 'odd'}",
                 f"*no* power of ${base}$ ends in $0$"),
    )  # fmt: skip


@kind("two_remainders", "numbers")
def two_remainders(rng: Random) -> Problem:
    m, n = rng.choice(((3, 5), (4, 7), (5, 7), (3, 8), (5, 8), (7, 9), (4, 9), (5, 6), (6, 7)))
    a, b = rng.randint(1, m - 1), rng.randint(1, n - 1)
    answer = next(x for x in range(1, m * n + 1) if x % m == a and x % n == b)
    if answer < n + 2 or answer - b < n:
        raise Reject
    thing = rng.choice(("number", None, None))
    items = rng.choice(("eggs", "cards", "coins", "plants", "chairs", "stamps"))

    def solve(g: Graph) -> None:
        g.claim(
            "form",
            (f"the number has the form ${n}k + {b}$", f"I can write the number as ${n}k + {b}$",
             f"a remainder of ${b}$ by ${n}$ means the form ${n}k + {b}$"), value=f"{n}k+{b}",
        )  # fmt: skip
        rest_n, rest_b = n % m, b % m
        g.claim(
            "other",
            (f"*also* ${n}k + {b}$ must leave ${a}$ when divided by ${m}$",
             f"dividing ${n}k + {b}$ by ${m}$ must give the remainder ${a}$, *too*"),
            "form", value=f"{rest_n}k+{rest_b}",
        )  # fmt: skip
        k = next(k for k in range(m) if (n * k + b) % m == a)
        wrong = k + 1
        tried = [f"k = {i}$ leaves ${(n * i + b) % m}" for i in range(k + 1)]
        found = g.claim(
            "k",
            (f"the *smallest* $k$ that does it is $k = {k}$", f"$k = {k}$ is the *first* that "
                                                              "fits, as "
             + ", ".join(f"${t}$" for t in tried[-2:]),
             f"trying them in turn, $k = {k}$ is the *first* to work"),
            "other", value=k,
            slips=[misread((f"the *smallest* $k$ that does it is $k = {wrong}$",
                            f"trying them in turn, $k = {wrong}$ is the *first* to work"), wrong,
                           f"${n} \\cdot {wrong} + {b}$ leaves ${(n * wrong + b) % m}$ and *not* "
                           f"${a}$",
                           kind="miscalculation")],
        )  # fmt: skip
        k = int(str(found))
        g.value("answer", ("the number", "the smallest such number"), f"{n} \\cdot {k} + "
                                                                      f"{b}", n * k + b,
                "form k", slips=[slip(f"{n} \\cdot {k}", n * k, f"the remainder ${b}$ is "
                                                                "missing")])  # fmt: skip

    question = (
        f"What is the smallest positive integer that leaves the remainder ${a}$ when divided by "
        f"${m}$ "
        f"and the remainder ${b}$ when divided by ${n}$?" if thing else
        f"Somebody counts {items}. In groups of ${m}$ there are ${a}$ left over, and in groups "
        f"of ${n}$ "
        f"there are ${b}$ left over. What is the smallest possible number of {items}?"
    )  # fmt: skip
    return Problem(
        "two_remainders", question, str(answer), ("the smallest such "
                                                  "number", "the number"), solve, "answer",
        conditions=(f"the remainder by ${m}$ is ${a}$", f"the remainder by ${n}$ is ${b}$",
                    "it must be the *smallest* one"),
        dead=((f"just add the remainders, ${a} + {b} = {a + b}$", f"by ${m}$ that leaves "
                                                                  f"${(a + b) % m}$",
               "remainders can't be added like that"),
              (f"multiply ${m} \\cdot {n} = {m * n}$", "that leaves $0$ both times",
               "it's the step between solutions and no solution itself")),
        checks=(f"${answer}$ leaves ${answer % m}$ by ${m}$ and ${answer % n}$ by ${n}$",
                f"${answer} = {m} \\cdot {answer // m} + {a}$"),
        other=(
            f"numbers that leave ${a}$ by ${m}$ are "
            f"${', '.join(str(a + m * i) for i in range(answer // m + 1))}$ and so on",
            f"numbers that leave ${b}$ by ${n}$ are "
            f"${', '.join(str(b + n * i) for i in range(answer // n + 1))}$ and so on",
            f"the *first* in both lists is ${answer}$",
        ),
        remarks=(f"the next such number is ${answer + m * n}$", f"${m}$ and ${n}$ have *no* "
                                                                "common factor"),
    )  # fmt: skip


@kind("common_period", "numbers")
def common_period(rng: Random) -> Problem:
    a, b, c = rng.sample((6, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 24, 25, 28, 30), 3)
    if gcd(a, b) == 1 or lcm(a, b, c) > 1300 or lcm(a, b) % c == 0 or gcd(lcm(a, b), c) == 1:
        raise Reject
    what, unit = rng.choice((("bells ring", "minutes"), ("buses leave", "minutes"),
                             ("lights flash", "seconds"), ("pumps start", "minutes")))  # fmt: skip
    noun = what.split()[0]
    span = rng.choice((1, 2, 3, 4)) * lcm(a, b, c) + rng.randint(1, lcm(a, b, c) - 1)

    def solve(g: Graph) -> None:
        one = g.whole("gcd", (f"the greatest common divisor of ${a}$ and ${b}$",), f"\\gcd({a}, "
                                                                                   f"{b})",
                      gcd(a, b))  # fmt: skip
        two = g.whole(
            "first", (f"the least common multiple of ${a}$ and "
                      f"${b}$",), f"\\frac{{{a} \\cdot {b}}}{{{one}}}",
            a * b // one if a * b % one == 0 else _reject(), "gcd",
            slips=[slip(f"{a} \\cdot {b}", a * b, f"${a}$ and ${b}$ share a factor, so the "
                                                  "product is too "
                        "large", "that is *a* common multiple but *not* the least")],
        )  # fmt: skip
        three = g.whole("gcd_all", (f"the greatest common divisor of ${two}$ and ${c}$",),
                        f"\\gcd({two}, {c})", gcd(two, c), "first")  # fmt: skip
        period = g.whole("all", ("the period of all three", "the least common multiple of all "
                                                            "three"),
                         f"\\frac{{{two} \\cdot {c}}}{{{three}}}",
                         two * c // three if two * c % three == 0 else _reject(),
                         "first gcd_all", unit=unit)  # fmt: skip
        g.value(
            "answer", ("the number of times", "how often they coincide"),
            f"\\lfloor \\frac{{{span}}}{{{period}}} \\rfloor + 1", span // period + 1, "all",
            why=("the *first* time at the beginning counts, too", "the start is included"),
            slips=[slip(f"\\lfloor \\frac{{{span}}}{{{period}}} \\rfloor", span // period,
                        "the start counts *as well*", "I forgot the moment "
                                                      "zero", kind="off_by_one")],
        )  # fmt: skip

    every = lcm(a, b, c)
    return Problem(
        "common_period",
        f"Three {what} at the same moment. After that, the first repeats every ${a}$ {unit}, the "
        "second "
        f"every ${b}$ and the third every ${c}$ {unit}. How often do all three coincide within "
        f"${span}$ "
        f"{unit}, the beginning included?",
        str(span // every + 1), ("the number of times they coincide",), solve, "answer",
        conditions=(f"the periods are ${a}$, ${b}$ and ${c}$ {unit}", "the beginning *counts*",
                    f"*all* three {noun} have to coincide", f"the span is ${span}$ {unit}"),
        dead=((f"add the periods, ${a} + {b} + {c} = {a + b + c}$", f"${span}$ divided by that is "
               f"about ${span // (a + b + c)}$", "a sum of periods means nothing here"),
              (f"write down the multiples of ${a}$", f"${a}, {2 * a}, {3 * a}, {4 * a}$ and so on",
               "with three lists that gets long")),
        checks=(f"${every}$ is divisible by ${a}$, ${b}$ and ${c}$",
                f"${span // every} \\cdot {every} = {span // every * every}$ is *at most* "
                f"${span}$, and "
                "the next one is beyond"),
        other=(
            f"the multiples of ${lcm(a, b)}$ are common to the first two",
            f"${every}$ is the *first* of them that ${c}$ divides, since ${every} = {c} \\cdot "
            f"{every // c}$",
            f"the next ones are ${2 * every}$, ${3 * every}$ and so on",
            f"up to ${span}$ that makes ${span // every}$, and one more at the start",
        ),
        remarks=(f"the first two coincide every ${lcm(a, b)}$ {unit}",
                 f"the last two coincide every ${lcm(b, c)}$ {unit}"),
    )  # fmt: skip


def _reject() -> int:
    raise Reject
