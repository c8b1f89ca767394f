"""Geometry: triangles by their coordinates, parts of circles."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, tex
from extracot_training.synthetic.reasoning.kinds.registry import kind, slip


@kind("triangle_coordinates", "geometry")
def triangle_coordinates(rng: Random) -> Problem:
    points = [(rng.randint(-5, 8), rng.randint(-5, 8)) for _ in range(3)]
    (x1, y1), (x2, y2), (x3, y3) = points
    area2 = (x2 - x1) * (y3 - y1) - (x3 - x1) * (y2 - y1)
    u, v, s, t = x2 - x1, y2 - y1, x3 - x1, y3 - y1
    if abs(area2) < 4 or 0 in (u, v, s, t):
        raise Reject
    names = rng.choice(("ABC", "PQR", "XYZ"))

    def minus(a: int, b: int) -> str:
        return f"{a} - {b}" if b >= 0 else f"{a} + {-b}"

    def par(n: int) -> str:
        return f"({n})" if n < 0 else str(n)

    def solve(g: Graph) -> None:
        parts = {}
        for key, label, a, b in (
            ("u", f"the first coordinate of ${names[0]}{names[1]}$", x2, x1),
            ("v", f"the second coordinate of ${names[0]}{names[1]}$", y2, y1),
            ("s", f"the first coordinate of ${names[0]}{names[2]}$", x3, x1),
            ("t", f"the second coordinate of ${names[0]}{names[2]}$", y3, y1),
        ):
            flipped = a + b
            parts[key] = g.whole(
                key, (label,), minus(a, b), a - b,
                slips=[slip(f"{a} + {par(b)}", flipped, "one has to subtract the starting point",
                            "I got a sign wrong there")] if flipped != a - b else (),
            )  # fmt: skip
        first = g.whole("first", ("the first product",), f"{par(parts['u'])} \\cdot "
                                                         f"{par(parts['t'])}",
                        parts["u"] * parts["t"], "u t")  # fmt: skip
        second = g.whole("second", ("the second product",), f"{par(parts['v'])} \\cdot "
                                                            f"{par(parts['s'])}",
                         parts["v"] * parts["s"], "v s")  # fmt: skip
        det = g.whole("det", ("the determinant", "the difference of the "
                                                 "products"), minus(first, second),
                      first - second, "first second",
                      slips=[slip(f"{first} + {par(second)}", first + second,
                                  "the products have to be *subtracted*")])  # fmt: skip
        g.value(
            "area", ("the area of the triangle", "the area"), f"\\frac{{1}}{{2}} \\cdot |{det}|",
            Fraction(abs(det), 2), "det",
            why=("the triangle is half of the parallelogram", "an area is *never* negative"),
            slips=[slip(f"|{det}|", abs(det), "that's the parallelogram, the triangle is half of "
                                              "it",
                        "I forgot the factor $\\frac{1}{2}$")],
        )  # fmt: skip

    shown = ", ".join(f"${n}({x}, {y})$" for n, (x, y) in zip(names, points, strict=True))
    answer = Fraction(abs(area2), 2)
    box = (max(p[0] for p in points) - min(p[0] for p in points)) * (
        max(p[1] for p in points) - min(p[1] for p in points))  # fmt: skip
    return Problem(
        "triangle_coordinates", "Find the area of the triangle with the corners "
                                f"{shown}.", tex(answer),
        ("the area of the triangle", "the area"), solve, "area",
        conditions=tuple(f"${n}$ is the point $({x}, "
                         f"{y})$" for n, (x, y) in zip(names, points, strict=True)),
        dead=(("Heron's formula would do it", "one side has the length "
                                              f"$\\sqrt{{{u * u + v * v}}}$",
               f"another one $\\sqrt{{{s * s + t * t}}}$", "those roots are ugly"),
              ("find the height first", f"the side ${names[0]}{names[1]}$ has the slope "
                                        f"${tex(Fraction(v, u))}$",
               "for that I'd need a perpendicular and its foot, that's long")),
        checks=(f"the triangle lies in a box of area ${box}$, and ${tex(answer)}$ is at most "
                "half of that",),
        other=(
            "the shoelace formula adds up products of neighbouring corners",
            f"${x1} \\cdot {par(y2)} - {par(x2)} \\cdot {par(y1)} = {x1 * y2 - x2 * y1}$",
            f"${x2} \\cdot {par(y3)} - {par(x3)} \\cdot {par(y2)} = {x2 * y3 - x3 * y2}$",
            f"${x3} \\cdot {par(y1)} - {par(x1)} \\cdot {par(y3)} = {x3 * y1 - x1 * y3}$",
            f"the sum is ${area2}$, and half of its size is ${tex(answer)}$",
        ),
        remarks=(f"the midpoint of ${names[0]}{names[1]}$ is $({tex(Fraction(x1 + x2, 2))}, "
                 f"{tex(Fraction(y1 + y2, 2))})$",
                 f"the slope of ${names[0]}{names[2]}$ is ${tex(Fraction(t, s))}$"),
    )  # fmt: skip


@kind("circle_part", "geometry")
def circle_part(rng: Random) -> Problem:
    diameter = 2 * rng.randint(2, 12)
    angle = rng.choice((30, 40, 45, 60, 72, 80, 90, 120, 135, 150, 240, 270))
    r = diameter // 2
    share = Fraction(angle, 360)
    round_thing = rng.choice(("pizza", "disc", "cake", "round table top", "circle"))

    def pi(value: Fraction) -> str:
        top = "" if value.numerator == 1 else str(value.numerator)
        if value.denominator == 1:
            return f"{top}\\pi"
        return f"\\frac{{{top}\\pi}}{{{value.denominator}}}"

    def solve(g: Graph) -> None:
        radius = g.number(
            "radius", ("the radius",), f"\\frac{{{diameter}}}{{2}}", Fraction(diameter, 2),
            symbol="r",
            why=(f"${diameter}$ is the diameter and *not* the radius", "the radius is half of it"),
            slips=[slip(f"{diameter}", diameter, "that's the *diameter*, the radius is half of it",
                        f"${diameter}$ goes *all* the way across", kind="misreading")],
        )  # fmt: skip
        square = g.whole("square", ("the square of the radius", "$r^2$"), f"{radius}^2",
                         int(radius) ** 2, "radius",
                         slips=[slip(f"2 \\cdot {radius}", 2 * radius, "the radius must be "
                                                                       "*squared*")]
                         if radius > 2 else ())  # fmt: skip
        part = g.number(
            "share", ("the share of the circle", "the part of the full turn"),
            (f"\\frac{{{angle}}}{{360}}",), share,
            slips=[slip(f"\\frac{{{angle}}}{{180}}", Fraction(angle, 180),
                        "a full turn has $360^\\circ$", "the whole circle is $360^\\circ$ and "
                                                        "*not* $180^\\circ$")],
        )  # fmt: skip
        g.value(
            "area", ("the area of the sector", "the area of the piece"),
            (f"{tex(part)} \\cdot \\pi \\cdot {square}", f"{tex(part)} \\cdot {square} \\pi"),
            pi(part * square), "square share",
            why=("the area of the whole circle is $\\pi r^2$",),
            slips=[slip(f"{tex(part)} \\cdot 2 \\cdot \\pi \\cdot {radius}", pi(part * 2 * radius),
                        "$2 \\pi r$ is the *circumference* and not the "
                        "area")] if radius != 2 else (),
        )  # fmt: skip

    return Problem(
        "circle_part",
        f"A {round_thing} has a diameter of ${diameter}$. A sector with an angle of "
        f"${angle}^\\circ$ is cut "
        "out of it. What is the area of the sector, in terms of $\\pi$?",
        pi(share * r * r), ("the area of the sector",), solve, "area",
        conditions=(f"the diameter is ${diameter}$", f"the angle of the sector is ${angle}^\\circ$",
                    "the result shall contain $\\pi$, *not* a decimal"),
        dead=(("find the length of the arc first", f"the circumference is ${diameter}\\pi$",
               "I want an area and no length"),
              (f"a triangle with the sides ${r}$ and ${r}$ is close to it", "its area needs a sine",
               "and the round part is missing, too")),
        checks=(f"the arc has the length ${pi(share * diameter)}$, and half of that times the "
                "radius is "
                f"${pi(share * r * r)}$",),
        other=(
            f"the whole circle has the area ${r}^2 \\pi = {r * r}\\pi$",
            f"one degree of it has $\\frac{{{r * r}\\pi}}{{360}}$",
            f"${angle}$ times that is ${pi(share * r * r)}$",
        ),
        remarks=(f"the circumference is ${diameter}\\pi$", "the rest of the circle has "
                                                           f"${360 - angle}^\\circ$"),
    )  # fmt: skip
