"""Geometry: areas, right triangles, similar figures, angles, coordinates, circles."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from extracot_training.synthetic.reasoning.facts import Graph, Problem, Reject, Root, tex
from extracot_training.synthetic.reasoning.kinds.registry import NAMES, kind, misread, slip


@kind("border", "geometry")
def border(rng: Random) -> Problem:
    w, h, d = rng.randint(4, 25), rng.randint(3, 20), rng.randint(1, 4)
    pool, path = rng.choice((("pool", "path"), ("picture", "frame"), ("lawn", "gravel strip"),
                             ("flower bed", "stone border"), ("stage", "carpet")))  # fmt: skip
    unit = "cm" if pool == "picture" else "m"

    def solve(g: Graph) -> None:
        both = (f"the {path} lies on *both* sides", f"the {path} adds ${d}$ at *each* end")
        sizes = []
        for key, name, size in (("w", "width", w), ("h", "length", h)):
            sizes.append(g.whole(
                f"outer_{key}", (f"the outer {name}", f"the {name} with the {path}",
                                 f"the {name} of the large rectangle"),
                (f"{size} + 2 \\cdot {d}", f"{size} + {d} + "
                                           f"{d}"), size + 2 * d, why=both, unit=unit,
                slips=[slip(f"{size} + {d}", size + d, f"the {path} lies on *both* sides",
                            f"I added the {path} on *one* side only",
                            f"there is {path} at the other end, too", kind="misreading")],
            ))  # fmt: skip
        outer = g.whole(
            "outer", ("the outer area", f"the area of {pool} and {path} together"),
            f"{sizes[0]} \\cdot {sizes[1]}", sizes[0] * sizes[1], "outer_w outer_h",
            slips=[slip(f"2 \\cdot ({sizes[0]} + {sizes[1]})", 2 * (sizes[0] + sizes[1]),
                        "that's a perimeter and *not* an area",
                        "for an area the sides are multiplied")],
        )  # fmt: skip
        inner = g.whole("inner", (f"the area of the {pool}", "the inner area"),
                        (f"{w} \\cdot {h}", f"{h} \\cdot {w}"), w * h)  # fmt: skip
        g.value(
            "path", (f"the area of the {path}", f"what is left for the {path}"),
            f"{outer} - {inner}", outer - inner, "outer inner",
            why=(f"the {pool} itself does *not* count", f"*only* the {path} is asked for",
                 f"the {path} is *everything except* the {pool}"),
            slips=[slip(f"{outer} + {inner}", outer + inner, "the inner part has to be taken "
                                                             "away")],
        )  # fmt: skip

    answer = (w + 2 * d) * (h + 2 * d) - w * h
    return Problem(
        "border",
        f"A rectangular {pool} measures ${w}$ {unit} by ${h}$ {unit}. All around it runs a "
        f"{path} that "
        f"is ${d}$ {unit} wide. What is the area of the {path}, in square {unit}?",
        str(answer), (f"the area of the {path}",), solve, "path",
        conditions=(f"the {pool} is ${w}$ by ${h}$", f"the {path} is ${d}$ {unit} wide on "
                                                     "*every* side",
                    f"the {path} goes *all* the way around"),
        dead=((f"I could cut the {path} into strips", f"two strips of length ${w}$ and two of "
                                                      f"length ${h}$",
               "the corners are missing then"),
              (f"take the perimeter of the {pool}", f"that is ${2 * (w + h)}$",
               f"times ${d}$ it would be ${2 * (w + h) * d}$", "this leaves out the corners")),
        checks=(f"two strips of ${w + 2 * d}$ by ${d}$ and two of ${h}$ by ${d}$ have the area "
                f"${2 * (w + 2 * d) * d} + {2 * h * d} = {answer}$",
                f"the strips along the sides have ${2 * (w + h) * d}$ and the four corners "
                f"${4 * d * d}$, "
                f"together ${answer}$"),
        other=(
            f"the two strips along the top and bottom measure ${w + 2 * d}$ by ${d}$",
            f"together they have $2 \\cdot {w + 2 * d} \\cdot {d} = {2 * d * (w + 2 * d)}$",
            f"the two strips at the sides measure ${h}$ by ${d}$, so $2 \\cdot {h} \\cdot {d} = "
            f"{2 * h * d}$",
            f"the sum is ${2 * d * (w + 2 * d)} + {2 * h * d} = {answer}$",
        ),
        remarks=(f"the perimeter of the {pool} is ${2 * (w + h)}$ {unit}",
                 f"*each* corner of the {path} is a square of area ${d * d}$",
                 f"the outer perimeter is ${2 * (w + h) + 8 * d}$"),
    )  # fmt: skip


@kind("right_triangle", "geometry")
def right_triangle(rng: Random) -> Problem:
    leg = rng.choice((True, True, False))
    a, b = rng.randint(2, 15), rng.randint(2, 15)
    if leg:
        c, a = max(a, b) + rng.randint(1, 6), min(a, b)
        story, target, known = rng.choice((
            (f"A ladder of length ${c}$ m leans against a wall. Its foot stands ${a}$ m away "
             "from the "
             "wall. How high up the wall does it reach?", "the height on the wall", "ladder"),
            (f"In a right triangle the hypotenuse is ${c}$ and one leg is ${a}$. How long is the "
             "other "
             "leg?", "the other leg", "hypotenuse"),
            (f"A kite flies at the end of a straight string of ${c}$ m. The point right below it "
             "is "
             f"${a}$ m away from the child who holds the string at the ground. How high is the "
             "kite?",
             "the height of the kite", "string"),
        ))  # fmt: skip
    else:
        c = 0
        story, target, known = rng.choice((
            (f"A rectangle has the sides ${a}$ and ${b}$. How long is its diagonal?",
             "the diagonal", "diagonal"),
            (f"A boat sails ${a}$ km east and then ${b}$ km north. How far is it from its start, "
             "as the "
             "crow flies?", "the distance from the start", "direct line"),
        ))  # fmt: skip
    p, q = (c, a) if leg else (a, b)
    sign = "-" if leg else "+"

    def solve(g: Graph) -> None:
        form = f"x^2 = {p}^2 {sign} {q}^2"
        bad = f"x^2 = {p}^2 {'+' if leg else '-'} {q}^2"
        why = (f"the {known} is the *longest* side here", f"the {known} lies opposite the right "
                                                          "angle",
               f"the {known} is the hypotenuse")  # fmt: skip
        found = g.claim(
            "law",
            (f"by Pythagoras ${form}$", f"${form}$ holds by the Pythagorean theorem",
             f"for {{{target}}} $x$ we have ${form}$", "the theorem of Pythagoras says that "
                                                       f"${form}$"),
            value=form, why=why,
            slips=[misread((f"by Pythagoras ${bad}$", f"${bad}$ by Pythagoras"), bad, *why,
                           f"the {known} has to stand *alone* on its side")],
        )  # fmt: skip
        right = found == form
        squares = [
            g.whole(f"square_{key}", (f"${n}^2$", f"the square of ${n}$"),
                    (f"{n}^2", f"{n} \\cdot {n}"), n * n,
                    slips=[slip(f"2 \\cdot {n}", 2 * n, "that's doubled and *not* squared")]
                    if n > 2 else ())
            for key, n in (("p", p), ("q", q))
        ]  # fmt: skip
        minus = (sign == "-") == right
        value = squares[0] - squares[1] if minus else squares[0] + squares[1]
        if value <= 0:
            raise Reject
        g.value(
            "square",
            (f"the square of {target}", "$x^2$"),
            f"{squares[0]} {'-' if minus else '+'} {squares[1]}",
            value,
            "law square_p square_q",
        )
        root = Root.of(value)
        g.value(
            "x", (target,), f"\\sqrt{{{value}}}", root, "square", symbol="x",
            why=("I still have to take the root", "a length is *positive*"),
            slips=[slip(f"\\frac{{{value}}}{{2}}", Fraction(value, 2),
                        "a square root is *not* a half", "I halved it instead of taking the root")],
        )  # fmt: skip
        if isinstance(root, Root) and abs(root.factor) != 1:
            square = int(root.factor**2)
            g.claim(
                "factor",
                (f"${value}$ contains the square number ${square}$",),
                "square",
                aside=True,
            )

    answer = Root.of(p * p - q * q if leg else p * p + q * q)
    square = p * p - q * q if leg else p * p + q * q
    low = int(square**0.5)
    return Problem(
        "right_triangle", story, tex(answer), (target,), solve, "x",
        conditions=(f"the lengths ${p}$ and ${q}$ are given", "there is a right angle",
                    f"the {known} is *not* one of the legs"),
        dead=(("maybe it's one of the well-known triples", "$3, 4, 5$ or $5, 12, 13$ come to mind",
               "I can't be sure that it fits"),
              ("use the angles", "the cosine of one angle is "
                                 f"$\\frac{{{min(p, q)}}}{{{max(p, q)}}}$"
               if leg else f"its tangent is $\\frac{{{p}}}{{{q}}}$",
               "for that I'd need a calculator"),
              (f"just subtract or add the lengths, ${max(p, q)} - {min(p, q)} = {abs(p - q)}$",
               "lengths at a right angle do *not* add up like that")),
        checks=(f"${square}$ lies between ${low}^2 = {low * low}$ and ${low + 1}^2 = "
                f"{(low + 1) ** 2}$",
                f"the square of the result is ${square}$" + (f", and ${square} + {q * q} = {p * p}$"
                                                           if leg else "")),
        remarks=(f"the third side lies between ${abs(p - q)}$ and ${p + q}$ in any case",
                 "in a right triangle the two acute angles add up to $90^\\circ$"),
    )  # fmt: skip


@kind("similar_triangles", "geometry")
def similar_triangles(rng: Random) -> Problem:
    pole, shade, other = rng.randint(2, 9), rng.randint(2, 9), rng.randint(5, 40)
    if pole == shade:
        raise Reject
    name, tall = rng.choice(NAMES), rng.choice(("tree", "tower", "flagpole", "chimney", "house"))

    def solve(g: Graph) -> None:
        form, bad = f"\\frac{{H}}{{{other}}} = \\frac{{{pole}}}{{{shade}}}", \
            f"\\frac{{H}}{{{other}}} = \\frac{{{shade}}}{{{pole}}}"  # fmt: skip
        g.claim(
            "similar", ("the two triangles are *similar*", "*both* triangles have the same angles",
                        "the sun's rays are parallel, so the triangles are *similar*"),
        )  # fmt: skip
        found = g.claim(
            "ratio",
            (f"${form}$, where $H$ is {{the height of the {tall}}}",
             f"height and shadow have the same ratio in *both* cases, ${form}$",
             f"the proportion is ${form}$"),
            "similar", value=form,
            slips=[misread((f"the proportion is ${bad}$", f"so ${bad}$"), bad,
                           "on the right I put the shadow above the height",
                           "heights have to be on top on *both* sides")],
        )  # fmt: skip
        top, below = (pole, shade) if found == form else (shade, pole)
        product = g.whole(
            "product", ("the product for the numerator", f"${other}$ times ${top}$"),
            f"{other} \\cdot {top}", other * top, "ratio")  # fmt: skip
        g.value(
            "height", (f"the height of the {tall}", "$H$"), f"\\frac{{{product}}}{{{below}}}",
            Fraction(product, below), "product", symbol="H", unit="m",
            slips=[slip(f"{product} - {below}", product - below,
                        f"one has to divide by ${below}$", "ratios aren't differences")],
        )  # fmt: skip

    answer = Fraction(other * pole, shade)
    return Problem(
        "similar_triangles",
        f"{name} puts up a stick that is ${pole}$ m tall; its shadow is ${shade}$ m long. At the "
        "same time "
        f"the shadow of a {tall} is ${other}$ m long. How tall is the {tall}, in metres?",
        tex(answer), (f"the height of the {tall}",), solve, "height",
        conditions=(f"a stick of ${pole}$ m has a shadow of ${shade}$ m",
                    f"the shadow of the {tall} is ${other}$ m long", "it's the *same* time of day"),
        dead=((f"the shadow differs from the stick by ${abs(pole - shade)}$",
               f"for the {tall} it would be ${other + pole - shade}$",
               "the difference is *not* the same for both, only the ratio is"),
              ("find the angle of the sun", f"its tangent is $\\frac{{{pole}}}{{{shade}}}$",
               "I don't need the angle itself")),
        checks=(f"${tex(answer)}$ to ${other}$ is the same as ${pole}$ to ${shade}$",
                f"${tex(answer)} \\cdot {shade} = {other * pole}$" if answer.denominator == 1
                else f"${shade}$ times the height is ${other * pole}$"),
        other=(
            f"the shadow of the {tall} is $\\frac{{{other}}}{{{shade}}}$ times that of the stick",
            "so its height must be that many times the height of the stick",
            f"${pole} \\cdot {tex(Fraction(other, shade))} = {tex(answer)}$",
        ),
        remarks=(f"the shadow of the {tall} is ${tex(Fraction(other, shade))}$ times that of the "
                 "stick",
                 "the shadows are longer than the things when the sun is low"),
    )  # fmt: skip


@kind("triangle_angles", "geometry")
def triangle_angles(rng: Random) -> Problem:
    a = rng.randint(2, 8) * 10 + rng.choice((0, 2, 4, 5, 6, 8))
    outside = rng.randint(95, 160)
    if outside - a <= 5 or a >= outside:
        raise Reject
    p, q, r = rng.choice((("A", "B", "C"), ("P", "Q", "R"), ("K", "L", "M"), ("X", "Y", "Z")))
    halved = rng.random() < 0.6

    def solve(g: Graph) -> None:
        deg = "^\\circ"
        at_q = g.whole(
            "inner", (f"the angle of the triangle at ${q}$", f"the inner angle at ${q}$"),
            f"180{deg} - {outside}{deg}", 180 - outside,
            why=("an exterior angle and its neighbour make a straight line",
                 f"${outside}{deg}$ is the angle *outside* of the triangle"),
            slips=[slip(f"{outside}{deg} - 90{deg}", outside - 90,
                        f"the two angles make $180{deg}$ and *not* $90{deg}$"),
                   slip(f"360{deg} - {outside}{deg}", 360 - outside,
                        f"a straight line is $180{deg}$", "a full turn is *not* what they make")],
        )  # fmt: skip
        third = 180 - a - at_q
        if third <= 0:
            raise Reject
        third = g.whole(
            "third", (f"the angle at ${r}$", "the third angle"),
            f"180{deg} - {a}{deg} - {at_q}{deg}", third, "inner",
            why=(f"*all* three angles together make $180{deg}$",
                 f"the angle sum of a triangle is $180{deg}$"),
            slips=[slip(f"360{deg} - {a}{deg} - {at_q}{deg}", 360 - a - at_q,
                        f"the angles of a *triangle* sum to $180{deg}$")],
        )  # fmt: skip
        if halved:
            half = g.number("half", (f"half of the angle at ${r}$",),
                            f"\\frac{{{third}{deg}}}{{2}}", Fraction(third, 2), "third",
                            why=("the bisector cuts the angle into two *equal* "
                                 "parts",))  # fmt: skip
            g.value(
                "last", ("the angle between the bisector and the side", "the angle asked for"),
                f"180{deg} - {a}{deg} - {tex(half)}{deg}", 180 - a - half, "half",
                why=(f"the bisector, ${p}{r}$ and ${p}{q}$ form a triangle of their own",
                     f"the small triangle at ${p}$ has the angle sum $180{deg}$, too"),
                slips=[slip(f"180{deg} - {a}{deg} - {third}{deg}", 180 - a - third,
                            f"*only* half of the angle at ${r}$ lies in that triangle")],
            )  # fmt: skip

    third = outside - a
    answer = Fraction(180 - a) - Fraction(third, 2) if halved else Fraction(third)
    ask = (
        f"The bisector of the angle at ${r}$ meets ${p}{q}$ at a point $D$. How large is the angle "
        f"${p}D{r}$, in degrees?" if halved else f"How large is the angle at ${r}$, in degrees?"
    )  # fmt: skip
    return Problem(
        "triangle_angles",
        f"In triangle ${p}{q}{r}$ the angle at ${p}$ is ${a}^\\circ$ and the exterior angle at "
        f"${q}$ is "
        f"${outside}^\\circ$. {ask}",
        tex(answer), (f"the angle ${p}D{r}$" if halved else f"the angle at ${r}$", "the angle "
                                                                                   "asked for"),
        solve, "last" if halved else "third",
        conditions=(f"the angle at ${p}$ is ${a}^\\circ$",
                    f"${outside}^\\circ$ is the *exterior* angle at ${q}$",
                    *((f"the bisector halves the angle at ${r}$",) if halved else ())),
        dead=(("maybe the triangle is isosceles", f"two angles would be ${a}^\\circ$",
               "nothing in the problem says so"),
              ("the law of sines might help", f"$\\frac{{{p}{q}}}{{\\sin {r}}}$ is the same for "
                                              "all sides",
               "no length is known, so that gives nothing")),
        checks=((f"the exterior angle is the sum of the two others, ${a} + {third} = {outside}$",)),
        other=(
            f"the exterior angle at ${q}$ is the sum of the angles at ${p}$ and ${r}$",
            f"so at ${r}$ there are ${outside}^\\circ - {a}^\\circ = {outside - a}^\\circ$",
        ),
        remarks=(f"the exterior angle at ${p}$ is ${180 - a}^\\circ$",
                 "the longest side lies opposite the largest angle"),
    )  # fmt: skip
