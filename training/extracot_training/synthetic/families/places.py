"""Families about places and layouts: gardens, fences, school trips, car parks, libraries."""

from __future__ import annotations

from extracot_training.synthetic.families.motion import ORDINALS
from extracot_training.synthetic.families.registry import family
from extracot_training.synthetic.story import Draw, Quantity, Story


@family("garden", (2, 8))
def garden(d: Draw, s: Story) -> None:
    """Beds of rows of plants; the plants together, or those left after a loss."""
    who = d.name()
    plants = d.one(("tulips", "carrots", "lettuces", "beans", "roses"))
    beds = {2: 1, 3: 2}.get(d.steps, d.steps - 2)
    sums = []
    for bed in range(beds):
        rows, per_row = d.pair(d.cap // beds)
        place = f"the {ORDINALS[bed]} bed"
        number = s.given(rows, f"the rows in {place}", "rows")
        each = s.given(per_row, f"the {plants} per row in {place}", plants)
        verb = "plants" if bed == 0 else "puts"
        s.fact(f"In {place}, {who} {verb} {number.amount} of {each.amount}.")
        sums.append(s.mul(number, each, f"the {plants} in {place}", plants))
    total = sums[0] if beds == 1 else s.add(sums, f"all {plants}", plants)
    if d.steps == 3:
        return s.question(f"How many {plants} does {who} plant?", f"{who} plants {{}}.")
    eaten = s.given(d.upto(total.value - 1, 1), f"the {plants} eaten by snails", plants)
    s.fact(f"Snails eat {eaten.value} of all these {plants}.")
    s.sub(total, eaten, f"the {plants} left", plants)
    s.question(f"How many {plants} are left?", "There are {} left.")


@family("fence", (2, 6))
def fence(d: Draw, s: Story) -> None:
    """The way around a rectangle, a gate left out, posts and their price."""
    land = d.one(("field", "playground", "meadow", "vegetable plot"))
    half = d.cap // 2
    length = d.between(2, max(2, half - 2))
    width = d.between(1, max(1, min(length, half - length)))
    long = s.given(length, "the length", "metres")
    wide = s.given(width, "the width", "metres")
    s.fact(f"A rectangular {land} is {long.amount} long and {wide.amount} wide.")
    side = s.add((long, wide), "one length and one width together", "metres")
    two = s.given(2, "the pairs of sides", spelled="rectangular")
    way = s.mul(side, two, "the way around", "metres")
    if d.steps == 2:
        return s.question(f"How many metres is the way around the {land}?", "The way around is {}.")
    gate = s.given(d.upto(max(1, way.value // 4), 1), "the width of the gate", "metres")
    s.fact(f"It gets a fence all around, except for a gate of {gate.amount}.")
    way = s.sub(way, gate, "the length of the fence", "metres")
    if d.steps == 3:
        return s.question("How many metres of fence are needed?", "{} of fence are needed.")
    if d.steps == 4:
        price = s.given(d.upto(d.cap // way.value), "the price of one metre", "dollars")
        s.fact(f"The fence costs {price.amount} per metre.")
        s.mul(way, price, "the price of the fence", "dollars")
        return s.question("How many dollars does the fence cost?", "The fence costs {}.")
    piece = s.given(d.divisor(way.value), "the length of one panel", "metres")
    s.fact(f"The fence is made of panels of {piece.amount} each.")
    panels = s.div(way, piece, "the number of panels", "panels")
    price = s.given(d.upto(d.cap // panels.value), "the price of one panel", "dollars")
    s.fact(f"One panel costs {price.amount}.")
    cost = s.mul(panels, price, "the price of the panels", "dollars")
    if d.steps == 6:
        work = s.given(d.upto(d.cap - cost.value, 1), "the price of the work", "dollars")
        s.fact(f"Building the fence costs another {work.amount}.")
        s.add((cost, work), "the price with the work", "dollars")
        return s.question("How many dollars do panels and work cost together?", "They cost {}.")
    s.question("How many dollars do all the panels cost?", "They cost {}.")


@family("school_trip", (2, 6))
def school_trip(d: Draw, s: Story) -> None:
    """Classes and helpers going by bus; seats left, or the number of buses."""
    goal = d.one(("zoo", "castle", "science museum", "farm"))
    classes, pupils = d.pair(d.cap // 2)
    number = s.given(classes, "the number of classes", "classes")
    each = s.given(pupils, "the pupils per class", "pupils")
    s.fact(f"To visit a {goal}, {number.amount} of {each.amount} each set out.")
    going = s.mul(number, each, "the number of pupils", "pupils")
    if d.steps >= 4:
        sick = s.given(d.upto(going.value // 2, 1), "the pupils who stay at home", "pupils")
        s.fact(f"Illness keeps {sick.value} of all these pupils at home.")
        going = s.sub(going, sick, "the pupils who come", "pupils")
    limit = max(1, (d.cap - going.value) // 2)
    adults = s.given(d.upto(limit, 1), "the number of adults", "adults")
    s.fact(f"The pupils are joined by {adults.amount}.")
    going = s.add((going, adults), "the number of people", "people")
    if d.steps == 2:
        return s.question("How many people go on the trip?", "{} go on the trip.")
    seats = s.given(d.divisor(going.value), "the people per van", "people")
    s.fact(f"They travel in vans that take {seats.value} people each, and every van is full.")
    vans = s.div(going, seats, "the number of vans", "vans")
    if d.steps >= 5:
        price = s.given(d.upto(d.cap // vans.value), "the price of one van", "dollars")
        s.fact(f"Hiring one van costs {price.amount}.")
        cost = s.mul(vans, price, "the price of all vans", "dollars")
        if d.steps == 6:
            grant = s.given(d.upto(cost.value - 1, 1), "the grant", "dollars")
            s.fact(f"The town pays {grant.amount} of that.")
            s.sub(cost, grant, "the rest to pay", "dollars")
            return s.question("How many dollars does the school have to pay?", "It has to pay {}.")
        return s.question("How many dollars do all the vans cost?", "They cost {}.")
    s.question("How many vans are needed?", "{} are needed.")


@family("car_park", (3, 7))
def car_park(d: Draw, s: Story) -> None:
    """Wheels of different vehicles, together or after some drive off."""
    vehicles = [("cars", 4), ("bicycles", 2), ("tricycles", 3), ("trucks", 6), ("unicycles", 1)]
    ending = d.steps >= 4 and (d.steps >= 6 or d.coin())
    kinds = d.steps - (2 if ending else 1)
    room = d.cap // kinds
    sums: list[Quantity] = []
    for sort, wheels in d.some(vehicles, kinds):
        count = s.given(d.upto(room // wheels, 1), f"the number of {sort}", sort)
        each = s.given(wheels, f"the wheels of each of the {sort}", "wheels")
        lead = "The same yard also holds" if sums else "A yard holds"
        s.fact(f"{lead} {count.amount} with {each.amount} each.")
        sums.append(s.mul(count, each, f"the wheels of the {sort}", "wheels"))
    total = s.add(sums, "all the wheels", "wheels")
    if ending:
        gone = s.given(d.upto(total.value - 1, 1), "the wheels already washed", "wheels")
        s.fact(f"A helper has already washed {gone.amount}.")
        s.sub(total, gone, "the wheels still to wash", "wheels")
        return s.question("How many wheels are still to be washed?", "There are {} to be washed.")
    s.question("How many wheels are in the yard?", "There are {} in the yard.")


@family("library", (2, 8))
def library(d: Draw, s: Story) -> None:
    """Shelves of books, then books borrowed, returned and bought."""
    shelves, per_shelf = d.pair(d.cap)
    number = s.given(shelves, "the number of shelves", "shelves")
    each = s.given(per_shelf, "the books per shelf", "books")
    s.fact(f"A small library has {number.amount} with {each.amount} on each.")
    books = s.mul(number, each, "the books on the shelves", "books")
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    for day in days[: d.steps - 1]:
        arrive = books.value < d.cap and (books.value < 2 or d.coin())
        limit = max(1, (d.cap - books.value) // 2) if arrive else books.value - 1
        moved = s.given(d.upto(limit, 1), f"the books of {day}", "books")
        if arrive:
            source = d.one(("readers bring back", "the library buys", "a visitor donates"))
            s.fact(f"On {day}, {source} {moved.amount} for the shelves.")
        else:
            s.fact(f"On {day}, readers take out {moved.amount}.")
        books = s.change(arrive, books, moved, f"the books after {day}", "books")
    s.question("How many books are on the shelves in the end?", "There are {} on the shelves.")
