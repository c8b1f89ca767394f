"""Families about people: ages, sharing, comparing, averages, scores, reading."""

from __future__ import annotations

from itertools import pairwise

from extracot_training.synthetic.families.registry import family
from extracot_training.synthetic.story import NUMBER_WORDS, Draw, Quantity, Story, listing, singular

RELATIVES = ("cousin", "neighbour", "friend", "teammate", "classmate", "colleague", "pen pal")


@family("ages", (2, 8))
def ages(d: Draw, s: Story) -> None:
    """A chain of age relations, ended by a sum or by looking some years ahead."""
    ending = d.one(("sum", "later")) if d.steps <= 5 else "later"
    people = d.names(d.steps)
    first = d.between(4, max(4, min(40, d.cap // 2)))
    age = s.given(first, f"the age of {people[0]}", "years")
    s.fact(f"{people[0]} is {age.amount} old.")
    known = [age]
    for before, who in pairwise(people):
        known.append(_relative_age(d, s, known[-1], before, who))
    if ending == "sum":
        s.add(known, "the sum of all the ages", "years")
        return s.question(f"How old are {listing(people)} together?", "Together they are {} old.")
    wait = s.given(d.upto(min(30, d.cap - known[-1].value), 1), "the years to wait", "years")
    s.add((known[-1], wait), f"the age of {people[-1]} by then", "years")
    s.question(f"How old will {people[-1]} be in {wait.amount}?", f"{people[-1]} will be {{}} old.")


def _relative_age(d: Draw, s: Story, age: Quantity, before: str, who: str) -> Quantity:
    what = f"the age of {who}"
    limit = min(90, d.cap)
    kinds = ["older"]
    if age.value >= 5:
        kinds.append("younger")
    if age.value * 2 <= limit:
        kinds.append("times")
    kind = d.one(kinds)
    if kind == "times":
        factor = d.between(2, min(3, limit // age.value))
        word = "twice" if factor == 2 else "three times"
        times = s.given(factor, f"the factor from {before} to {who}", spelled=word)
        s.fact(f"{who} is {word} as old as {before}.")
        return s.mul(age, times, what, "years")
    top = min(12, limit - age.value) if kind == "older" else min(12, age.value - 3)
    gap = s.given(d.between(1, top), f"the years between {before} and {who}", "years")
    s.fact(f"{who} is {gap.amount} {kind} than {before}.")
    return s.change(kind == "older", age, gap, what, "years")


@family("sharing", (2, 6))
def sharing(d: Draw, s: Story) -> None:
    """Bags of sweets put together, some eaten, the rest shared equally."""
    who = d.name()
    goods = d.one(("toffees", "nuts", "grapes", "stamps", "balloons"))
    bags, per_bag = d.pair(d.cap // 2)
    number = s.given(bags, "the number of bags", "bags")
    each = s.given(per_bag, f"the {goods} per bag", goods)
    s.fact(f"{who} has {number.amount} with {each.amount} in each.")
    have = s.mul(number, each, f"the {goods} in the bags", goods)
    if d.steps >= 3:
        loose = s.given(d.upto(d.cap - have.value, 1), f"the loose {goods}", goods)
        s.fact(f"A bowl holds another {loose.value} of them.")
        have = s.add((have, loose), f"all {goods}", goods)
    if d.steps >= 4:
        gone = s.given(d.upto(have.value - 2, 1), f"the {goods} kept back", goods)
        s.fact(f"{who} keeps {gone.value} back for later.")
        have = s.sub(have, gone, f"the {goods} to share", goods)
    children = s.given(d.divisor(have.value), "the number of children", "children")
    shared = "All the rest" if d.steps >= 4 else "Everything"
    s.fact(f"{shared} is shared equally among {children.amount}.")
    portion = s.div(have, children, f"the {goods} per child", goods)
    if d.steps >= 5:
        extra = s.given(d.upto(d.cap - portion.value, 1), f"the {goods} Mia had already", goods)
        s.fact(f"One of the children, Mia, already had {extra.amount} of her own.")
        portion = s.add((portion, extra), f"the {goods} Mia then has", goods)
    if d.steps >= 6:
        eaten = s.given(d.upto(portion.value - 1, 1), f"the {goods} Mia gives away", goods)
        s.fact(f"Mia gives {eaten.value} of hers to her brother.")
        s.sub(portion, eaten, f"the {goods} Mia keeps", goods)
    if d.steps >= 5:
        s.question(f"How many {goods} does Mia have in the end?", "Mia has {} in the end.")
    else:
        s.question(f"How many {goods} does each child get?", "Each child gets {}.")


@family("compare", (2, 8))
def compare(d: Draw, s: Story) -> None:
    """Several people's amounts, each told against an earlier one; their total or a difference."""
    goods = d.one(("books", "stickers", "photos", "badges", "postcards"))
    people = d.names(d.steps)
    together = d.coin()
    room = d.cap // d.steps
    first = s.given(d.between(2, max(2, room)), f"the {goods} of {people[0]}", goods)
    s.fact(f"{people[0]} has {first.amount}.")
    owned = [first]
    for who in people[1:]:
        # A difference is told as a chain, so that nobody's amount is worked out for nothing.
        other = d.between(0 if together else len(owned) - 1, len(owned) - 1)
        owned.append(_relative_amount(d, s, owned[other], people[other], who, goods))
    if together:
        s.add(owned, f"the {goods} of all together", goods)
        return s.question(f"How many {goods} do they have altogether?", "They have {} altogether.")
    high, low = (0, -1) if owned[0].value > owned[-1].value else (-1, 0)
    rich, poor = people[high], people[low]
    s.sub(owned[high], owned[low], f"the lead of {rich} over {poor}", goods)
    s.question(f"How many more {goods} does {rich} have than {poor}?", f"{rich} has {{}} more.")


def _relative_amount(
    d: Draw, s: Story, base: Quantity, other: str, who: str, goods: str
) -> Quantity:
    what = f"the {goods} of {who}"
    kinds = ["more"]
    if base.value >= 3:
        kinds.append("fewer")
    if base.value * 2 <= d.cap // 2:
        kinds.append("times")
    kind = d.one(kinds)
    if kind == "times":
        factor = d.between(2, max(2, min(5, d.cap // (2 * base.value))))
        word = "twice" if factor == 2 else f"{NUMBER_WORDS[factor]} times"
        times = s.given(factor, f"the factor from {other} to {who}", spelled=word)
        s.fact(f"{who} has {word} as many {goods} as {other}.")
        return s.mul(base, times, what, goods)
    top = max(1, d.cap // 4) if kind == "more" else base.value - 1
    gap = s.given(d.upto(top, 1), f"the difference between {other} and {who}", goods)
    noun = singular(goods) if gap.value == 1 else goods
    s.fact(f"{who} has {gap.value} {kind} {noun} than {other}.")
    return s.change(kind == "more", base, gap, what, goods)


@family("average", (2, 5))
def average(d: Draw, s: Story) -> None:
    """The mean of several numbers, then set against another result."""
    who = d.name()
    game, unit = d.one((("a quiz", "points"), ("a spelling test", "points"), ("darts", "points")))
    rounds = d.between(2, 5)
    mean = d.upto(d.cap // rounds)
    scores, left = [], mean * rounds
    for position in range(rounds):
        others = rounds - position - 1
        score = left if others == 0 else d.between(1, max(1, min(2 * mean, left - others)))
        left -= score
        scores.append(s.given(score, f"the score of round {position + 1}", unit))
    said = listing([str(score.value) for score in scores])
    number = s.given(rounds, "the number of rounds", "rounds")
    s.fact(f"In {rounds} rounds of {game}, {who} scores {said} points.")
    total = s.add(scores, "the points of all rounds", unit)
    result = s.div(total, number, "the average per round", unit)
    if d.steps == 2:
        ask = f"How many points does {who} score per round on average?"
        return s.question(ask, "The average is {}.")
    rival = d.one(RELATIVES)
    if d.steps >= 4:
        bonus = s.given(d.upto(d.cap - result.value, 1), "the bonus", unit)
        s.fact(f"A bonus of {bonus.amount} is added to the average, which makes the final result.")
        result = s.add((result, bonus), "the final result", unit)
    if d.steps >= 5:
        times = s.given(d.between(2, 4), "the factor of the prize", spelled=None)
        s.fact(f"For the final result, {who} gets {times.value} tokens per point.")
        result = s.mul(result, times, "the number of tokens", "tokens")
        have = s.given(d.between(1, max(1, result.value - 1)), f"the tokens of a {rival}", "tokens")
        s.fact(f"A {rival} gets {have.amount}.")
    else:
        have = s.given(d.between(1, max(1, result.value - 1)), f"the result of a {rival}", unit)
        kind = "a final result" if d.steps >= 4 else "an average"
        s.fact(f"A {rival} has {kind} of {have.value}.")
    unit = "tokens" if d.steps == 5 else unit
    s.sub(result, have, f"the lead over the {rival}", unit)
    s.question(f"How many {unit} more does {who} have than the {rival}?", f"{who} has {{}} more.")


@family("scores", (3, 8))
def scores(d: Draw, s: Story) -> None:
    """Points of different worth for one or two teams; the total or the lead."""
    home, away = d.some(("Lions", "Hawks", "Otters", "Comets", "Wolves", "Falcons"), 2)
    kinds = ("goals", "baskets", "throws", "jumps", "sprints", "passes", "shots")
    used = d.some(kinds, d.steps - 2)
    sums = []
    for kind in used:
        number, worth = d.pair((d.cap - 1) // len(used))
        count = s.given(number, f"the {kind} of the {home}", kind)
        points = s.given(worth, f"the points for each of the {kind}", "points")
        s.fact(f"The {home} make {number} {kind}, each worth {points.amount}.")
        sums.append(s.mul(count, points, f"the points from {kind}", "points"))
    if len(sums) == 1:
        bonus = s.given(d.upto((d.cap - sums[0].value) // 2, 1), "the fair play points", "points")
        s.fact(f"They also get {bonus.amount} for fair play.")
        sums.append(bonus)
    total = s.add(sums, f"the points of the {home}", "points")
    behind = total.value < d.cap and d.coin()
    least, most = (total.value + 1, d.cap) if behind else (1, total.value - 1)
    theirs = s.given(d.between(least, most), f"the points of the {away}", "points")
    s.fact(f"The {away} have {theirs.amount}.")
    first, more, fewer = (away, theirs, total) if behind else (home, total, theirs)
    s.sub(more, fewer, f"the lead of the {first}", "points")
    s.question(f"By how many points do the {first} lead?", f"The {first} lead by {{}}.")


@family("reading", (2, 6))
def reading(d: Draw, s: Story) -> None:
    """Pages per day, pages left, and the days the rest takes."""
    who = d.name()
    pages, days = d.pair(d.cap // 2)
    each = s.given(pages, "the pages per day", "pages")
    number = s.given(days, "the number of days", "days")
    s.fact(f"{who} reads {each.amount} of a book per day for {number.amount}.")
    done = s.mul(each, number, "the pages read", "pages")
    if d.steps >= 4:
        weekend = s.given(d.upto((d.cap - done.value) // 2, 1), "the pages of the weekend", "pages")
        s.fact(f"On the weekend, {who} reads {weekend.value} more.")
        done = s.add((done, weekend), "all pages read so far", "pages")
    whole = s.given(d.between(done.value + 2, d.cap), "the pages of the book", "pages")
    s.fact(f"The book has {whole.amount}.")
    left = s.sub(whole, done, "the pages left", "pages")
    if d.steps == 2:
        return s.question(f"How many pages does {who} still have to read?", "There are {} left.")
    if d.steps >= 5:
        skip = s.given(d.upto(left.value - 2, 1), "the pages of the appendix", "pages")
        s.fact(f"The last {skip.value} pages are an appendix that {who} won't read.")
        left = s.sub(left, skip, "the pages left without the appendix", "pages")
    pace = s.given(d.divisor(left.value), "the new pages per day", "pages")
    s.fact(f"From now on {who} reads {pace.amount} per day.")
    more = s.div(left, pace, "the days still needed", "days")
    if d.steps == 6:
        away = s.given(d.upto(d.cap - more.value, 1), "the days of the break", "days")
        s.fact(f"Before going on, {who} takes a break of {away.amount}.")
        s.add((more, away), "the days until the end", "days")
        return s.question("How many days from now will the book be finished?", "It will take {}.")
    s.question("How many more days of reading does the book take?", "It takes {}.")
