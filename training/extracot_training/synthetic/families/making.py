"""Families about making things: work rates, baking, factories, recipes, painting, farms."""

from __future__ import annotations

from extracot_training.synthetic.families.registry import family
from extracot_training.synthetic.story import Draw, Quantity, Story, listing, singular


@family("work_rates", (2, 7))
def work_rates(d: Draw, s: Story) -> None:
    """Workers together make so many per hour; hours, then rejects, boxes, and what is missing."""
    goods = d.one(("toys", "chairs", "candles", "kites", "baskets"))
    workers = d.names(2 if d.steps < 5 else d.between(2, 3))
    limit = d.cap // 2
    total, hours = d.pair(limit, len(workers) + 1)
    rates, left = [], total
    for position, who in enumerate(workers):
        others = len(workers) - position - 1
        rate = left if others == 0 else d.between(1, left - others)
        left -= rate
        rates.append(s.given(rate, f"the {goods} {who} makes per hour", goods))
    said = [f"{who} makes {rate.amount} per hour" for who, rate in zip(workers, rates, strict=True)]
    time = s.given(hours, "the number of hours", "hours")
    s.fact(f"In a workshop, {listing(said)}. They work for {time.amount}.")
    pace = s.add(rates, f"the {goods} made per hour together", goods)
    made = s.mul(pace, time, f"the {goods} made", goods)
    if d.steps >= 3:
        stock = s.given(d.upto(d.cap - made.value, 1), f"the {goods} made before", goods)
        s.fact(f"The workshop already had {stock.amount} in store.")
        made = s.add((made, stock), f"all {goods}", goods)
    if d.steps >= 4:
        bad = s.given(d.upto(made.value // 2, 1), f"the faulty {goods}", goods)
        s.fact(f"Of all these, the workshop throws {bad.value} away because of faults.")
        made = s.sub(made, bad, f"the good {goods}", goods)
    if d.steps >= 5:
        made = _packed(d, s, made, goods)
    if d.steps >= 6:
        sold = s.given(d.upto(made.value - 1, 1), "the boxes sold", "boxes")
        s.fact(f"The workshop sells {sold.amount}.")
        made = s.sub(made, sold, "the boxes left", "boxes")
    if d.steps >= 7:
        shelves = s.given(d.upto(d.cap - made.value, 1), "the boxes delivered", "boxes")
        s.fact(f"Another workshop delivers {shelves.amount} to it.")
        made = s.add((made, shelves), "the boxes at the end", "boxes")
    unit = "boxes" if d.steps >= 5 else goods
    s.question(f"How many {unit} does the workshop have in the end?", "The workshop has {}.")


def _packed(d: Draw, s: Story, things: Quantity, goods: str) -> Quantity:
    """Put ``things`` into full boxes of a size that fits."""
    size = s.given(d.divisor(things.value, quotient=2), f"the {goods} per box", goods)
    s.fact(f"The good ones are packed into boxes of {size.value}, and every box is full.")
    return s.div(things, size, "the number of boxes", "boxes")


@family("baking", (2, 6))
def baking(d: Draw, s: Story) -> None:
    """Batches of cookies, some eaten, the rest in bags that are sold."""
    who = d.name()
    sort = d.one(("cookies", "muffins", "buns", "pancakes"))
    batches, per_batch = d.pair(d.cap)
    number = s.given(batches, "the number of batches", "batches")
    each = s.given(per_batch, f"the {sort} per batch", sort)
    s.fact(f"{who} bakes {number.amount} of {sort} with {each.amount} in each batch.")
    have = s.mul(number, each, f"the {sort} baked", sort)
    if d.steps >= 5:
        burnt = s.given(d.upto(have.value // 3, 1), f"the burnt {sort}", sort)
        s.fact(f"{who} burns {burnt.value} of these and throws them out.")
        have = s.sub(have, burnt, f"the good {sort}", sort)
    eaten = s.given(d.upto(have.value - 1, 1), f"the {sort} the family eats", sort)
    s.fact(f"The family eats {eaten.amount}.")
    have = s.sub(have, eaten, f"the {sort} left over", sort)
    if d.steps == 2:
        return s.question(f"How many {sort} are left?", "There are {} left.")
    size = s.given(d.divisor(have.value), f"the {sort} per bag", sort)
    s.fact(f"{who} puts the rest into bags of {size.value}, filling every bag.")
    bags = s.div(have, size, "the number of bags", "bags")
    if d.steps == 3:
        return s.question(f"How many bags does {who} fill?", f"{who} fills {{}}.")
    price = s.given(d.upto(d.cap // bags.value), "the price of one bag", "dollars")
    s.fact(f"All the bags are sold at {price.amount} each.")
    money = s.mul(bags, price, "the money earned", "dollars")
    if d.steps == 6:
        cost = s.given(d.upto(money.value - 1, 1), "the cost of the flour", "dollars")
        s.fact(f"The flour had cost {cost.amount}.")
        s.sub(money, cost, "the profit", "dollars")
        return s.question("How many dollars of profit remain?", "{} of profit remain.")
    s.question(f"How many dollars does {who} earn?", f"{who} earns {{}}.")


@family("factory", (2, 6))
def factory(d: Draw, s: Story) -> None:
    """Crates of cartons of things; damage, a rest order, and the split over shops."""
    goods = d.one(("bulbs", "jars", "mugs", "batteries", "tiles"))
    limit = int(d.cap**0.5) + 1 if d.steps > 2 else d.cap
    crates, cartons = d.pair(limit)
    first = s.given(crates, "the number of crates", "crates")
    second = s.given(cartons, "the cartons per crate", "cartons")
    s.fact(f"A truck brings {first.amount}, each with {second.amount}.")
    boxes = s.mul(first, second, "the number of cartons", "cartons")
    per = s.given(d.upto(d.cap // boxes.value), f"the {goods} per carton", goods)
    s.fact(f"Each carton holds {per.amount}.")
    things = s.mul(boxes, per, f"the {goods} on the truck", goods)
    if d.steps >= 3:
        broken = s.given(d.upto(things.value // 2, 1), f"the broken {goods}", goods)
        s.fact(f"On the way, {broken.amount} break.")
        things = s.sub(things, broken, f"the whole {goods}", goods)
    if d.steps >= 5:
        more = s.given(d.upto(d.cap - things.value, 1), f"the {goods} in store", goods)
        s.fact(f"The store adds {more.amount} of its own.")
        things = s.add((things, more), f"all the {goods}", goods)
    if d.steps >= 4:
        shops = s.given(d.divisor(things.value), "the number of shops", "shops")
        s.fact(f"All whole {goods} are shared equally among {shops.amount}.")
        things = s.div(things, shops, f"the {goods} per shop", goods)
    if d.steps >= 6:
        sold = s.given(d.upto(things.value - 1, 1), f"the {goods} one shop sells", goods)
        s.fact(f"One of the shops sells {sold.amount} of its share.")
        s.sub(things, sold, f"the {goods} left in that shop", goods)
        ask = f"How many {goods} of its share does that shop have left?"
        return s.question(ask, "It has {} left.")
    asked = {2: "are on the truck", 3: "arrive whole"}.get(d.steps, "does each shop get")
    s.question(f"How many {goods} {asked}?", "The answer is {}.")


@family("recipe", (2, 5))
def recipe(d: Draw, s: Story) -> None:
    """An amount for some people scaled to others, then compared with the cupboard."""
    who = d.name()
    stuff, unit = d.one((("rice", "cups"), ("flour", "spoons"), ("milk", "glasses")))
    each, guests = d.pair(d.cap - 1)
    base = d.between(2, 8)
    amount = s.given(each * base, f"the {stuff} in the recipe", unit)
    serves = s.given(base, "the people the recipe serves", "people")
    people = s.given(guests, "the number of guests", "people")
    s.fact(f"A recipe for {serves.amount} needs {amount.amount} of {stuff}.")
    s.fact(f"{who} cooks it for {people.amount}, with the same amount for everyone.")
    single = s.div(amount, serves, f"the {stuff} per person", unit)
    need = s.mul(single, people, f"the {stuff} needed", unit)
    if d.steps >= 4:
        spare = s.given(d.upto(d.cap - need.value, 1), f"the {stuff} spilled", unit)
        s.fact(f"While cooking, {who} spills {spare.amount} of {stuff}, which must be replaced.")
        need = s.add((need, spare), f"the {stuff} used", unit)
    if d.steps == 2:
        return s.question(f"How many {unit} of {stuff} does {who} need?", f"{who} needs {{}}.")
    stock = s.given(d.upto(need.value - 1, 1), f"the {stuff} in the cupboard", unit)
    s.fact(f"There are {stock.amount} of {stuff} in the cupboard.")
    missing = s.sub(need, stock, f"the {stuff} to buy", unit)
    if d.steps == 5:
        one = singular(unit)
        price = s.given(d.upto(d.cap // missing.value), f"the price of one {one}", "dollars")
        s.fact(f"In the shop, {stuff} costs {price.amount} per {one}.")
        s.mul(missing, price, f"the cost of the missing {stuff}", "dollars")
        return s.question(f"How many dollars does the missing {stuff} cost?", "It costs {}.")
    s.question(f"How many more {unit} of {stuff} does {who} need?", f"{who} needs {{}} more.")


@family("painting", (2, 6))
def painting(d: Draw, s: Story) -> None:
    """Wall area less windows, paint cans by coverage, and their price."""
    who = d.name()
    height, width = d.pair(d.cap // (2 if d.steps >= 5 else 1))
    tall = s.given(height, "the height of a wall", "metres")
    wide = s.given(width, "the width of a wall", "metres")
    s.fact(f"A wall is {tall.amount} high and {wide.amount} wide.")
    area = s.mul(tall, wide, "the area of one wall", "square metres")
    if d.steps >= 5:
        walls = s.given(d.between(2, d.cap // area.value), "the number of walls", "walls")
        s.fact(f"{who} wants to paint {walls.amount} of this size.")
        area = s.mul(area, walls, "the area of all walls", "square metres")
    else:
        s.fact(f"{who} wants to paint it.")
    window = s.given(d.upto(area.value // 2, 1), "the area of the windows", "square metres")
    s.fact(f"Windows take up {window.amount} of the whole area and stay unpainted.")
    area = s.sub(area, window, "the area to paint", "square metres")
    if d.steps == 2:
        return s.question(f"How many square metres does {who} paint?", f"{who} paints {{}}.")
    covers = s.given(d.divisor(area.value), "the area one can covers", "square metres")
    s.fact(f"One can of paint covers {covers.amount}.")
    cans = s.div(area, covers, "the number of cans", "cans")
    if d.steps == 3:
        return s.question("How many cans of paint are needed?", "{} are needed.")
    price = s.given(d.upto(d.cap // max(cans.value, 1)), "the price of one can", "dollars")
    s.fact(f"Each can costs {price.amount}.")
    cost = s.mul(cans, price, "the price of the paint", "dollars")
    if d.steps == 6:
        brush = s.given(d.upto(d.cap - cost.value, 1), "the price of the brushes", "dollars")
        s.fact(f"Brushes cost another {brush.amount}.")
        s.add((cost, brush), "the price of paint and brushes", "dollars")
        return s.question("How many dollars do paint and brushes cost together?", "They cost {}.")
    s.question("How many dollars does the paint cost?", "The paint costs {}.")


@family("hens", (2, 6))
def hens(d: Draw, s: Story) -> None:
    """Eggs per day, days, eggs kept, cartons, and their price."""
    who = d.name()
    limit = int(d.cap**0.6) + 2 if d.steps >= 3 else d.cap // 2
    hens_number, eggs = d.pair(limit)
    number = s.given(hens_number, "the number of hens", "hens")
    each = s.given(eggs, "the eggs per hen and week", "eggs")
    s.fact(f"{who} has {number.amount}, and each lays {each.amount} per week.")
    have = s.mul(number, each, "the eggs per week", "eggs")
    if d.steps >= 3:
        weeks = s.given(d.between(2, d.cap // have.value), "the number of weeks", "weeks")
        s.fact(f"{who} collects all the eggs for {weeks.amount}.")
        have = s.mul(have, weeks, "the eggs collected", "eggs")
    kept = s.given(d.upto(have.value - 1, 1), "the eggs kept", "eggs")
    span = "them" if d.steps >= 3 else "the eggs of one week"
    s.fact(f"{who} keeps {kept.value} of {span} for the kitchen.")
    have = s.sub(have, kept, "the eggs to sell", "eggs")
    if d.steps >= 4:
        size = s.given(d.divisor(have.value), "the eggs per carton", "eggs")
        s.fact(f"The others go into cartons of {size.value}, and every carton is full.")
        have = s.div(have, size, "the number of cartons", "cartons")
    if d.steps >= 5:
        price = s.given(d.upto(d.cap // have.value), "the price of one carton", "dollars")
        s.fact(f"The market pays {price.amount} per carton.")
        have = s.mul(have, price, "the money from the market", "dollars")
    if d.steps >= 6:
        feed = s.given(d.upto(have.value - 1, 1), "the price of the feed", "dollars")
        s.fact(f"From that money {who} pays {feed.amount} for feed.")
        s.sub(have, feed, "the money left after the feed", "dollars")
        return s.question(f"How many dollars does {who} have left of it?", f"{who} has {{}} left.")
    if d.steps == 5:
        return s.question(f"How many dollars does {who} get?", f"{who} gets {{}}.")
    asked = "cartons are filled" if d.steps == 4 else "eggs can be sold"
    s.question(f"How many {asked}?", "The number is {}.")
