"""Algebra: linear and quadratic equations."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, Root, tex
from extracot_training.synthetic.reasoning.kinds.registry import kind, misread, slip


@kind("linear_equation", "algebra")
def linear_equation(rng: Random) -> Problem:
    a, b, c = rng.randint(2, 9), rng.randint(2, 9), rng.randint(1, 20)
    d, e = rng.randint(1, 8), rng.randint(1, 30)
    if a == d:
        raise Reject
    x = rng.choice("xyzt")
    left = f"{a}({x} - {b}) + {c}"
    right = f"{d if d > 1 else ''}{x} + {e}"
    answer = Fraction(e - c + a * b, a - d)

    def solve(g: Graph) -> None:
        product = g.whole(
            "product", ("the constant from the bracket", f"what $-{b}$ turns into"),
            (f"{a} \\cdot (-{b})",), -a * b,
            why=(f"the factor ${a}$ goes to *both* terms in the bracket",
                 f"the ${a}$ multiplies *each* term of the bracket"),
            slips=[slip(f"{a} \\cdot {b}", a * b, "there is a *minus* in the bracket",
                        "I lost the minus sign in the bracket"),
                   slip(f"-{b}", -b, f"the ${a}$ has to multiply the ${b}$, too",
                        f"I only multiplied ${x}$ and forgot the ${b}$")],
        )  # fmt: skip
        constant = g.whole(
            "constant", ("the constant on the left", "the number on the left-hand side"),
            (f"{product} + {c}",), product + c, "product",
        )  # fmt: skip
        shown = f"{a}{x} {'+' if constant >= 0 else '-'} {abs(constant)} = {right}"
        g.claim(
            "expanded", (f"the equation becomes ${shown}$", f"the equation reads ${shown}$",
                         f"I have ${shown}$ after expanding"), "constant", value=shown,
        )  # fmt: skip
        many = g.whole(
            "many", (f"the coefficient of ${x}$", f"the number of ${x}$'s left over"),
            (f"{a} - {d}",), a - d,
            why=(f"I bring ${right.split(' + ')[0]}$ to the left",
                 f"${right.split(' + ')[0]}$ is subtracted on *both* sides"),
            slips=[slip(f"{a} + {d}", a + d,
                        f"${right.split(' + ')[0]}$ changes its sign when it goes to the other "
                        "side",
                        "it must be subtracted and not added")],
        )  # fmt: skip
        rest = g.number(
            "rest", ("the constant on the right", f"what ${many}{x}$ equals"),
            (f"{e} - {constant}" if constant >= 0 else f"{e} + {-constant}",), e - constant,
            "expanded many",
            slips=[slip(f"{e} - {-constant}" if constant < 0 else f"{e} + {constant}",
                        e + constant, "the constant has to change its sign on the other side",
                        "I moved the constant over with the wrong sign")],
        )  # fmt: skip
        value = Fraction(rest, many)
        g.value(
            "x", (f"the value of ${x}$", "the solution"), (f"\\frac{{{tex(rest)}}}{{{many}}}",),
            value, "rest", symbol=x,
            why=(f"I divide by ${many}$", f"*both* sides are divided by ${many}$"),
            slips=[slip(f"\\frac{{{many}}}{{{tex(rest)}}}", Fraction(many) / rest if rest else 0,
                        "I divided the wrong way round", "that is upside down")],
        )  # fmt: skip

    check = a * (answer - b) + c
    return Problem(
        "linear_equation", f"Solve for ${x}$: ${left} = {right}$.", tex(answer),
        (f"the value of ${x}$", f"${x}$", "the solution of the equation"), solve, "x",
        conditions=(f"the equation is ${left} = {right}$", f"${left}$ has to equal ${right}$"),
        dead=((f"I could try ${x} = {b}$", f"the left side is ${c}$ and the right side is "
                                           f"${d * b + e}$"
               , "that isn't equal, and guessing could take long"),
              (f"I could divide everything by ${a}$ first",
               f"the left side is then ${x} - {b} + \\frac{{{c}}}{{{a}}}$ and the right side "
               f"$\\frac{{{right}}}{{{a}}}$", "now there are fractions everywhere"),
              (f"draw the lines ${left}$ and ${right}$", "they cross somewhere",
               "the crossing can't be read off exactly")),
        checks=(f"the left side at ${x} = {tex(answer)}$ is ${tex(check)}$ and so is the right "
                "side",
                f"${right}$ is ${tex(check)}$ there, and so is ${left}$"),
        remarks=(f"the left side is a line of slope ${a}$", "there is *only* one solution",
                 f"the right side has slope ${d}$", f"at ${x} = 0$ the left side is ${c - a * b}$"),
    )  # fmt: skip


@kind("quadratic_length", "algebra")
def quadratic_length(rng: Random) -> Problem:
    width, more = rng.randint(2, 14), rng.randint(1, 12)
    area = width * (width + more)
    thing, unit = rng.choice((("garden", "m"), ("poster", "cm"), ("field", "m"), ("tray", "cm"),
                              ("carpet", "m"), ("screen", "cm")))  # fmt: skip
    w = rng.choice("wxb")

    def solve(g: Graph) -> None:
        form = f"{w}({w} + {more}) = {area}"
        wrong = f"2({w} + {w} + {more}) = {area}"
        equation = g.claim(
            "equation",
            (f"with ${w}$ for the width, ${form}$", f"calling the width ${w}$, I need ${form}$",
             f"let ${w}$ be the {{width}}, then ${form}$",
             f"the area condition reads ${form}$, where ${w}$ is the {{width}}"),
            value=form,
            slips=[misread((f"with ${w}$ for the width, ${wrong}$", f"I need ${wrong}$"), wrong,
                           f"${area}$ is the *area* and not the perimeter",
                           "that would be the perimeter, the problem gives the area")],
        )  # fmt: skip
        if equation != form:
            g.value(
                "width",
                ("the width",),
                (f"\\frac{{{area} - {2 * more}}}{{4}}",),
                Fraction(area - 2 * more, 4),
                "equation",
                symbol=w,
                unit=unit,
            )
            raise Reject
        normal = f"{w}^2 + {more}{w} - {area} = 0" if more > 1 else f"{w}^2 + {w} - {area} = 0"
        g.claim(
            "normal", (f"in normal form this is ${normal}$", f"that is the same as ${normal}$",
                       f"rearranged, ${normal}$"), "equation", value=normal,
        )  # fmt: skip
        inside = g.whole(
            "inside", ("the discriminant", "what stands under the root"),
            (f"{more}^2 + 4 \\cdot {area}", f"{more}^2 - 4 \\cdot 1 \\cdot (-{area})"),
            more**2 + 4 * area, "normal", symbol="D",
            slips=[slip(f"{more}^2 - 4 \\cdot {area}", more**2 - 4 * area,
                        f"the constant term is *negative*, so $4 \\cdot {area}$ is added",
                        "the last coefficient has a minus, I dropped it")],
        )  # fmt: skip
        root = g.number("root", ("the root of the discriminant",),
                        (f"\\sqrt{{{inside}}}",), Root.of(inside), "inside")  # fmt: skip
        g.claim(
            "roots",
            (f"the solutions are ${w} = \\frac{{-{more} + {tex(root)}}}{{2}}$ and "
             f"${w} = \\frac{{-{more} - {tex(root)}}}{{2}}$",
             f"this leaves ${w} = \\frac{{-{more} \\pm {tex(root)}}}{{2}}$"),
            "root", value=f"{root}",
        )  # fmt: skip
        value = (root - more) / 2
        negative = tex(-(root + more) / 2)
        g.claim(
            "width",
            (f"*only* ${w} = {tex(value)}$ is possible, since a width can*not* be *negative*",
             f"a width is *positive*, so ${w} = {tex(value)}$ and *not* ${negative}$",
             f"the *negative* solution ${negative}$ makes *no* sense, so the {{width}} is "
             f"${tex(value)}$"),
            "roots", value=value, what=("the width",),
            slips=[misread((f"so ${w} = {negative}$ up to its sign, and the width is "
                            f"${tex((root + more) / 2)}$",), (root + more) / 2,
                           f"${tex((root + more) / 2)}$ is *not* a solution, its opposite is",
                           "one can't just drop the sign of a solution")],
        )  # fmt: skip
        value = _last(g, "width")
        g.value(
            "length", ("the length", "the longer side"), (f"{tex(value)} + {more}",), value + more,
            "width", unit=unit,
            slips=[slip(f"{tex(value)} - {more}", value - more, "the length is *more* than the "
                                                                "width",
                        "the longer side is asked for, so it has to be added")],
        )  # fmt: skip

    return Problem(
        "quadratic_length",
        f"A rectangular {thing} has an area of ${area}$ square "
        f"{'metres' if unit == 'm' else 'centimetres'}. "
        f"Its length is ${more}$ {unit} more than its width. How long is it, in {unit}?",
        str(width + more), ("the length", f"the length of the {thing}"), solve, "length",
        conditions=(f"the area is ${area}$", f"the length is ${more}$ *more* than the width",
                    "the length is what is asked, *not* the width"),
        dead=((f"maybe I can list factor pairs of ${area}$", f"there is ${1} \\cdot {area}$, "
               f"with difference ${area - 1}$", "there might be many of these"),
              (f"I could guess a width of ${max(1, width - 2)}$",
               f"the area is then ${(max(1, width - 2)) * (max(1, width - 2) + more)}$",
               "that's too small, so I need something else"),
              ("take a square of the same area", f"its side is $\\sqrt{{{area}}}$",
               f"one would have to stretch it by some part of ${more}$, which isn't half on each "
               "side")),
        checks=(f"${width} \\cdot {width + more} = {area}$",
                f"the sides ${width}$ and ${width + more}$ differ by ${more}$"),
        other=(
            f"I look for two numbers with the product ${area}$ and the difference ${more}$",
            f"${width} \\cdot {width + more} = {area}$ and ${width + more} - {width} = {more}$",
            f"so the sides are ${width}$ and ${width + more}$",
        ),
        remarks=(f"the perimeter is ${2 * (2 * width + more)}$",
                 "a quadratic equation has *at most* two solutions",
                 f"the product of the two solutions is $-{area}$"),
        unit=unit,
    )  # fmt: skip


def _last(g: Graph, key: str) -> Fraction:
    value = g.facts[key].value
    if isinstance(value, str | Root):
        raise Reject
    return Fraction(value)


@kind("one_solution", "algebra")
def one_solution(rng: Random) -> Problem:
    a, b = rng.choice((1, 1, 2, 3, 4, 5)), rng.randint(2, 13)
    lead = "" if a == 1 else str(a)
    k = rng.choice("ckm")
    answer = Fraction(b * b, 4 * a)

    def solve(g: Graph) -> None:
        g.claim(
            "condition",
            ("there is *exactly* one solution *only if* the discriminant is $0$",
             "the discriminant must *vanish* for *exactly* one solution",
             "*exactly* one solution means that the discriminant is *zero*"),
            value="zero",
            slips=[misread(("there is a solution if the discriminant is positive",), "positive",
                           "a positive discriminant gives *two* solutions",
                           "that gives two solutions and *not* one")],
        )  # fmt: skip
        if g.facts["condition"].wrong:
            raise Reject
        form = f"{b}^2 - 4 \\cdot {a} \\cdot {k}"
        bad = f"{b}^2 + 4 \\cdot {a} \\cdot {k}"
        found = g.claim(
            "discriminant",
            (f"the {{discriminant}} is ${form}$", f"here $b^2 - 4ac$ is ${form}$",
             f"${form}$ is the {{discriminant}}"),
            value=form,
            slips=[misread((f"the discriminant is ${bad}$",), bad,
                           "the formula is $b^2 - 4ac$, with a minus",
                           "there is a *minus* before $4ac$")],
        )  # fmt: skip
        sign = 1 if found == form else -1
        square = g.whole("square", (f"${b}^2$", "the square of the middle "
                                                "coefficient"), f"{b}^2", b * b,
                         slips=[slip(f"2 \\cdot {b}", 2 * b, "squaring isn't doubling",
                                     f"${b}^2$ is ${b} \\cdot {b}$")])  # fmt: skip
        four = g.whole("four", (f"the factor of ${k}$",), f"4 \\cdot {a}", 4 * a,
                       "discriminant") if a > 1 else 4  # fmt: skip
        equation = f"{square} = {four}{k}" if sign == 1 else f"{square} + {four}{k} = 0"
        deps = "condition discriminant square" + (" four" if a > 1 else "")
        g.claim("equation", (f"${equation}$", f"I need ${equation}$", "the condition says "
                                                                      f"${equation}$"),
                deps, value=equation)  # fmt: skip
        value = sign * Fraction(square, four)
        g.value(k, ("the value of "
                    f"${k}$",), f"{'-' if sign < 0 else ''}\\frac{{{square}}}{{{four}}}",
                value, "equation", symbol=k)  # fmt: skip

    half = Fraction(b, 2 * a)
    return Problem(
        "one_solution",
        f"For which number ${k}$ does the equation ${lead}x^2 + {b}x + {k} = 0$ have exactly one "
        "real solution?",
        tex(answer), (f"the value of ${k}$", f"${k}$"), solve, k,
        conditions=("there must be *exactly* one real solution",
                    f"the equation is ${lead}x^2 + {b}x + {k} = 0$", f"${k}$ is unknown"),
        dead=((f"try ${k} = 1$", f"${lead}x^2 + {b}x + 1 = 0$ has the discriminant "
                                 f"${b * b - 4 * a}$",
               "so there are two solutions or none, and trying further values is no plan"),
              ("maybe I can factor it", f"I would need two numbers with sum ${b}$ and product "
                                        f"${a}{k}$",
               f"but ${k}$ isn't known"),
              ("use the derivative", f"it is ${2 * a}x + {b}$",
               "this is more than the problem asks for")),
        checks=(f"with this, the equation has the double solution $x = -{tex(half)}$",
                f"${b * b} - 4 \\cdot {a} \\cdot {tex(answer)} = 0$" if answer.denominator == 1
                else f"$4 \\cdot {a}$ times ${tex(answer)}$ is ${b * b}$"),
        other=(
            f"*exactly* one solution means that the left side is ${a}$ times a perfect square",
            f"${lead}(x + {tex(half)})^2$ has the middle term ${b}x$",
            f"its constant term is ${a} \\cdot {tex(half * half)} = {tex(answer)}$",
        ),
        remarks=(f"the parabola has its vertex at $x = -{tex(half)}$",
                 "for smaller values there are two solutions",
                 "for larger values there is *no* real solution",
                 f"the sum of the solutions is always $-{tex(Fraction(b, a))}$"),
    )  # fmt: skip
