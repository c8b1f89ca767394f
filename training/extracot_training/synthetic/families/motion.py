"""Families about movement and amounts that change: trips, buses, stairs, tanks, lifts, clocks."""

from __future__ import annotations

from extracot_training.synthetic.families.registry import family
from extracot_training.synthetic.story import NUMBER_WORDS, Draw, Quantity, Story

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def _up_or_down(d: Draw, value: int) -> tuple[bool, int]:
    """Whether to add or take away, and how much, so that 1..cap is kept."""
    room = d.cap - value
    if room >= 1 and (value < 2 or d.coin()):
        return True, d.upto(max(1, room // 2), 1)
    return False, d.upto(value - 1, 1)


@family("bus", (2, 8))
def bus(d: Draw, s: Story) -> None:
    """Passengers get on and off, one change per stop."""
    vehicle = d.one(("bus", "tram", "ferry", "train"))
    on_board = s.given(d.upto(d.cap // 2), "the passengers at the start", "passengers")
    s.fact(f"A {vehicle} leaves the station with {on_board.amount}.")
    for stop in range(d.steps):
        up, number = _up_or_down(d, on_board.value)
        place = f"the {ORDINALS[stop]} stop"
        what = f"the passengers after {place}"
        way = "on" if up else "off"
        moved = s.given(number, f"the passengers who get {way} at {place}", "passengers")
        s.fact(f"At {place}, {moved.amount} {'get' if number > 1 else 'gets'} {way}.")
        on_board = s.change(up, on_board, moved, what, "passengers")
    s.question(f"How many passengers are on the {vehicle} now?", "There are now {} on board.")


@family("trip", (2, 7))
def trip(d: Draw, s: Story) -> None:
    """Legs at a steady speed each; the distance so far, or what is left of the whole."""
    legs = {2: 1, 3: 2}.get(d.steps, d.steps - 2)
    rest = d.steps != 3
    who = d.name()
    parts = []
    for leg in range(legs):
        trip = "the trip" if leg else "a bicycle trip"
        speed, hours = d.pair((d.cap - 1) // legs)
        pace = s.given(speed, f"the speed on part {leg + 1}", "km")
        time = s.given(hours, f"the hours of part {leg + 1}", "hours")
        ride = f"{who} rides {pace.amount} per hour for {time.amount}"
        s.fact(f"On the {ORDINALS[leg]} part of {trip}, {ride}.")
        parts.append(s.mul(pace, time, f"the length of part {leg + 1}", "km"))
    ridden = parts[0] if legs == 1 else s.add(parts, "the distance ridden", "km")
    if not rest:
        return s.question(f"How many km does {who} ride in total?", f"{who} rides {{}} in total.")
    whole = s.given(d.between(ridden.value + 1, d.cap), "the length of the whole trip", "km")
    s.fact(f"The whole trip is {whole.amount} long.")
    s.sub(whole, ridden, "the distance still to go", "km")
    s.question(f"How many km are left for {who} to ride?", "There are {} left.")


@family("water_tank", (2, 5))
def water_tank(d: Draw, s: Story) -> None:
    """A tap fills, a leak drains, water is used; finally cans are filled from it."""
    tank = d.one(("tank", "basin", "pool", "barrel"))
    rate, minutes = d.pair(d.cap // 2)
    if d.steps >= 3:
        leak = d.upto(d.cap // 4, 1)
        inflow = s.given(rate + leak, "the flow of the tap per minute", "liters")
        drop = s.given(leak, "the leak per minute", "liters")
        lost = f"while {drop.amount} per minute leak out"
        s.fact(f"A tap runs {inflow.amount} per minute into an empty {tank}, {lost}.")
        flow = s.sub(inflow, drop, "the gain per minute", "liters")
    else:
        flow = s.given(rate, "the flow of the tap per minute", "liters")
        s.fact(f"A tap runs {flow.amount} per minute into an empty {tank}.")
    time = s.given(minutes, "the number of minutes", "minutes")
    s.fact(f"This goes on for {time.amount}.")
    level = s.mul(flow, time, f"the water that came into the {tank}", "liters")
    bucket = s.given(d.upto(d.cap - level.value, 1), "the water poured in", "liters")
    s.fact(f"Then someone pours in another {bucket.amount}.")
    level = s.add((level, bucket), f"the water then in the {tank}", "liters")
    if d.steps >= 4:
        used = s.given(d.upto(level.value - 2, 1), "the water used", "liters")
        s.fact(f"After that, {used.amount} are used for the flowers.")
        level = s.sub(level, used, f"the water left in the {tank}", "liters")
    if d.steps >= 5:
        size = s.given(d.divisor(level.value), "the size of one can", "liters")
        s.fact(f"The rest is filled into cans of {size.amount}, and every can gets full.")
        s.div(level, size, "the number of full cans", "cans")
        return s.question("How many cans are filled?", "{} are filled.")
    s.question(f"How many liters are in the {tank} at the end?", "There are {} in it.")


@family("stairs", (2, 8))
def stairs(d: Draw, s: Story) -> None:
    """Up and down a tower by whole floors, then counted in steps."""
    who, tower = d.name(), d.one(("tower", "lighthouse", "hotel", "castle"))
    per_floor = d.upto(max(2, d.cap // 6))
    top = max(2, d.cap // per_floor)
    floor = s.given(d.between(1, top), "the floor at the start", "floors")
    s.fact(f"In a {tower}, {who} stands {floor.amount} above the ground.")
    for move in range(d.steps - 1):
        room = top - floor.value
        up = room >= 1 and (floor.value < 2 or d.coin())
        distance = d.upto(room if up else floor.value - 1, 1)
        moved = s.given(distance, f"the floors of move {move + 1}", "floors")
        s.fact(f"{'Then' if move else 'First'} {who} goes {'up' if up else 'down'} {moved.amount}.")
        floor = s.change(up, floor, moved, f"the floor after move {move + 1}", "")
    each = s.given(per_floor, "the steps per floor", "steps")
    s.fact(f"Each floor is {each.amount} high.")
    s.mul(floor, each, "the steps down to the ground", "steps")
    s.question(f"How many steps is {who} above the ground now?", f"{who} is {{}} above the ground.")


@family("practice", (2, 7))
def practice(d: Draw, s: Story) -> None:
    """Minutes per day on several kinds of days, together, against a plan."""
    who = d.name()
    what = d.one(("piano", "violin", "chess", "drawing", "juggling"))
    kinds = {2: 1, 3: 2}.get(d.steps, d.steps - 2)
    totals = []
    for part in range(kinds):
        minutes, days = d.pair((d.cap - 1) // kinds)
        week = f"block {part + 1}"
        each = s.given(minutes, f"the minutes per day in {week}", "minutes")
        number = s.given(days, f"the practice days in {week}", "days")
        s.fact(f"In block {part + 1}, {who} practises {what} {each.amount} a day on {days} days.")
        totals.append(s.mul(each, number, f"the minutes in {week}", "minutes"))
    total = totals[0] if kinds == 1 else s.add(totals, "the minutes practised", "minutes")
    if d.steps == 3:
        return s.question(f"How many minutes does {who} practise in all?", f"{who} practises {{}}.")
    plan = s.given(d.between(total.value + 1, d.cap), "the planned minutes", "minutes")
    s.fact(f"The teacher asked for {plan.amount} altogether.")
    s.sub(plan, total, "the minutes missing to the plan", "minutes")
    s.question(f"How many minutes of practice is {who} short?", f"{who} is {{}} short.")


@family("laps_compare", (3, 6))
def laps_compare(d: Draw, s: Story) -> None:
    """Two people move at different speeds; the gap between them, perhaps after a head start."""
    fast, slow = d.names(2)
    limit = d.cap // 2
    pace, minutes = d.pair(limit, 3)
    time = s.given(minutes, "the number of minutes", "minutes")
    quick = s.given(pace, f"the metres per minute of {fast}", "metres")
    lazy = s.given(d.between(1, pace - 1), f"the metres per minute of {slow}", "metres")
    paces = f"{fast} makes {quick.amount} per minute, and {slow} {lazy.amount} per minute"
    s.fact(f"{fast} and {slow} walk the same way along a road for {time.amount}: {paces}.")
    far = s.mul(quick, time, f"the distance {fast} walks", "metres")
    near = s.mul(lazy, time, f"the distance {slow} walks", "metres")
    if d.steps >= 4:
        lead = s.given(d.upto(d.cap - far.value, 1), f"the head start of {fast}", "metres")
        s.fact(f"{slow} starts at a gate, and {fast} starts {lead.amount} ahead of it.")
        far = s.add((far, lead), f"how far {fast} gets with the head start", "metres")
    else:
        s.fact("Both start at the same gate.")
    if d.steps >= 5:
        back = s.given(d.upto(near.value - 1, 1), f"the metres {slow} walks back", "metres")
        s.fact(f"Afterwards {slow} turns and walks {back.amount} back.")
        near = s.sub(near, back, f"how far {slow} gets in the end", "metres")
    gap = s.sub(far, near, f"the gap between {fast} and {slow}", "metres")
    if d.steps >= 6:
        poles = s.given(d.divisor(gap.value), "the metres between two lamps", "metres")
        s.fact(f"There is a lamp every {poles.amount} along the way.")
        s.div(gap, poles, "the number of lamp distances", "sections")
        ask = f"The gap between {fast} and {slow} is how many sections from lamp to lamp?"
        return s.question(ask, "The gap is {}.")
    s.question(f"How many metres is {fast} ahead of {slow}?", f"{fast} is {{}} ahead.")


@family("marbles", (2, 8))
def marbles(d: Draw, s: Story) -> None:
    """A collection that is halved, multiplied, added to and taken from."""
    who = d.name()
    goods = d.one(("marbles", "shells", "cards", "coins", "beads"))
    have = s.given(d.upto(d.cap // 2), f"the {goods} at the start", goods)
    s.fact(f"{who} has {have.amount}.")
    for turn in range(d.steps):
        have = _turn(d, s, have, goods, turn)
    s.question(f"How many {goods} does {who} have at the end?", f"{who} has {{}} at the end.")


def _turn(d: Draw, s: Story, have: Quantity, goods: str, turn: int) -> Quantity:
    what = f"the {goods} after event {turn + 1}"
    lead = "Then" if turn else "At first"
    choices = ["change"]
    if have.value % 2 == 0 and have.value >= 4:
        choices.append("half")
    if 2 <= have.value <= d.cap // 2:
        choices.append("times")
    kind = d.one(choices)
    if kind == "half":
        two = s.given(2, "the divisor of a half", spelled="half")
        s.fact(f"{lead}, the owner gives half of the {goods} away.")
        return s.div(have, two, what, goods)
    if kind == "times":
        factor = d.between(2, min(4, d.cap // have.value))
        word = "twice" if factor == 2 else f"{NUMBER_WORDS[factor]} times"
        times = s.given(factor, f"the factor of event {turn + 1}", spelled=word)
        s.fact(f"{lead}, the collection grows to {word} as many {goods} as before.")
        return s.mul(have, times, what, goods)
    up, number = _up_or_down(d, have.value)
    moved = s.given(number, f"the {goods} of event {turn + 1}", goods)
    s.fact(f"{lead}, the owner {'finds' if up else 'loses'} {moved.amount}.")
    return s.change(up, have, moved, what, goods)
