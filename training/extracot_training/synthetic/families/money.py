"""Families about money: buying, saving, tickets, bills, subscriptions, fundraising, discounts."""

from __future__ import annotations

from extracot_training.synthetic.families.registry import family
from extracot_training.synthetic.story import Draw, Story, counted, listing, singular

GOODS = ("pens", "notebooks", "erasers", "rulers", "folders", "stickers", "markers", "brushes")


@family("shopping", (2, 8))
def shopping(d: Draw, s: Story) -> None:
    """Several kinds at a price each; the total, or the change from what was paid."""
    kinds = {2: 1, 3: 2}.get(d.steps, d.steps - 2)
    change = d.steps != 3
    who = d.name()
    spent = []
    for goods in d.some(GOODS, kinds):
        number, price = d.pair(d.cap // kinds - (1 if change else 0))
        count = s.given(number, f"the number of {goods}", goods)
        each = s.given(price, f"the price of one {singular(goods)}", "dollars")
        bought = f"{who} buys {count.amount} at {each.amount} each."
        s.fact(d.one((bought, f"{who} takes {count.amount}, and each costs {each.amount}.")))
        spent.append(s.mul(count, each, f"the cost of the {goods}", "dollars"))
    total = spent[0] if kinds == 1 else s.add(spent, "the total cost", "dollars")
    if not change:
        ask = f"How many dollars does {who} pay in total?"
        return s.question(ask, f"{who} pays {{}} in total.")
    paid = s.given(d.between(total.value + 1, d.cap), "the money handed over", "dollars")
    s.fact(f"{who} hands the cashier {paid.amount}.")
    s.sub(paid, total, "the change", "dollars")
    s.question(f"How many dollars does {who} get back?", f"{who} gets {{}} back.")


@family("savings", (2, 6))
def savings(d: Draw, s: Story) -> None:
    """Weekly saving, gifts and spending, until a goal."""
    who = d.name()
    weekly, weeks = d.pair(d.cap // 2)
    each = s.given(weekly, "the amount saved per week", "dollars")
    number = s.given(weeks, "the number of weeks", "weeks")
    s.fact(f"{who} saves {each.amount} every week for {number.amount}.")
    have = s.mul(each, number, "the money saved from week to week", "dollars")
    for turn in range(d.steps - 2):
        if turn % 2 == 0:
            gift = s.given(d.upto((d.cap - have.value) // 2, 1), f"gift {turn // 2 + 1}", "dollars")
            giver = ("An aunt", "A grandfather")[turn // 2]
            s.fact(f"{giver} then adds {gift.amount} to the savings.")
            have = s.add((have, gift), f"the amount saved with gift {turn // 2 + 1}", "dollars")
        else:
            thing = ("a book", "a lamp")[turn // 2]
            cost = s.given(d.upto(have.value - 1, 1), f"the price of {thing}", "dollars")
            s.fact(f"Then {who} spends {cost.amount} of it on {thing}.")
            have = s.sub(have, cost, f"the amount left after buying {thing}", "dollars")
    goal = s.given(d.between(have.value + 1, d.cap), "the price of the bicycle", "dollars")
    s.fact(f"A bicycle costs {goal.amount}.")
    s.sub(goal, have, "the money still missing", "dollars")
    ask = f"How many more dollars does {who} need for the bicycle?"
    s.question(ask, f"{who} still needs {{}}.")


@family("tickets", (3, 6))
def tickets(d: Draw, s: Story) -> None:
    """Adult and child tickets; takings, costs, and a split among organisers."""
    place = d.one(("theatre", "museum", "circus", "aquarium"))
    share = d.cap // 2
    sums = []
    for group in ("adult", "child"):
        number, price = d.pair(share)
        count = s.given(number, f"the number of {group} tickets", "tickets")
        each = s.given(price, f"the price of one {group} ticket", "dollars")
        s.fact(f"The {place} sells {number} {group} tickets at {each.amount} each.")
        sums.append(s.mul(count, each, f"the income from {group} tickets", "dollars"))
    money = s.add(sums, "the total income", "dollars")
    last = "take in from the tickets"
    if d.steps >= 4:
        rent = s.given(d.upto(money.value - 2, 1), "the cost of the evening", "dollars")
        s.fact(f"Running the evening costs {rent.amount}.")
        money = s.sub(money, rent, "the profit", "dollars")
        last = "keep after the cost of the evening"
    if d.steps >= 5:
        gift = s.given(d.upto(d.cap - money.value, 1), "the donation", "dollars")
        s.fact(f"A visitor donates another {gift.amount}.")
        money = s.add((money, gift), "the profit with the donation", "dollars")
        last = "keep after the cost and the donation"
    if d.steps >= 6:
        organisers = s.given(d.divisor(money.value), "the number of organisers", "people")
        s.fact(f"The {organisers.value} organisers share what is left equally.")
        s.div(money, organisers, "the share of each organiser", "dollars")
        return s.question("How many dollars does each organiser get?", "Each organiser gets {}.")
    s.question(f"How many dollars does the {place} {last}?", f"The {place} has {{}}.")


@family("bill_split", (3, 6))
def bill_split(d: Draw, s: Story) -> None:
    """A restaurant bill of several dishes, perhaps a tip and a voucher, split equally."""
    extras = d.one([k for k in (0, 1, 2) if 1 <= d.steps - 2 - k <= 2])
    products = d.steps - 2 - extras
    dishes = d.some(("soups", "salads", "pizzas", "pies", "dumplings"), products + 1)
    amounts = []
    for position, dish in enumerate(dishes):
        if position < products:
            number, price = d.pair(d.cap // (len(dishes) + 1))
            count = s.given(number, f"the number of {dish}", dish)
            each = s.given(price, f"the price of one {singular(dish)}", "dollars")
            group = "They also order" if position else "A group of friends orders"
            s.fact(f"{group} {count.amount} at {each.amount} each.")
            amounts.append(s.mul(count, each, f"the cost of the {dish}", "dollars"))
        else:
            price = d.upto(d.cap // (len(dishes) + 1))
            plate = s.given(price, f"the price of the shared plate of {dish}", "dollars")
            s.fact(f"They also share a plate of {dish} for {plate.amount}.")
            amounts.append(plate)
    bill = s.add(amounts, "the bill", "dollars")
    if extras >= 1:
        tip = s.given(d.upto(d.cap - bill.value, 1), "the tip", "dollars")
        s.fact(f"They leave a tip of {tip.amount}.")
        bill = s.add((bill, tip), "the bill with the tip", "dollars")
    if extras >= 2:
        voucher = s.given(d.upto(bill.value - 2, 1), "the voucher", "dollars")
        s.fact(f"A voucher takes {voucher.amount} off what they have to pay.")
        bill = s.sub(bill, voucher, "the amount after the voucher", "dollars")
    friends = s.given(d.divisor(bill.value), "the number of friends", "people")
    s.fact(f"The {friends.value} friends split the amount equally.")
    s.div(bill, friends, "the share of each friend", "dollars")
    s.question("How many dollars does each friend pay?", "Each friend pays {}.")


@family("subscription", (2, 5))
def subscription(d: Draw, s: Story) -> None:
    """A monthly fee, a sign-up fee, paid extras and a refund."""
    who, club = d.name(), d.one(("gym", "film club", "chess school", "swimming pool"))
    fee, months = d.pair(d.cap // 3)
    each = s.given(fee, "the fee per month", "dollars")
    number = s.given(months, "the number of months", "months")
    s.fact(f"{who} is a member of a {club} for {number.amount} and pays {each.amount} per month.")
    total = s.mul(each, number, "the sum of the monthly fees", "dollars")
    if d.steps >= 4:
        price, visits = d.pair(d.cap // 3)
        extra = s.given(price, "the price of one lesson", "dollars")
        times = s.given(visits, "the number of lessons", "lessons")
        s.fact(f"{who} also takes {times.amount} at {extra.amount} per lesson.")
        lessons = s.mul(extra, times, "the cost of the lessons", "dollars")
        total = s.add((total, lessons), "the cost with the lessons", "dollars")
    if d.steps in (3, 5):
        refund = s.given(d.upto(total.value - 1, 1), "the refund", "dollars")
        s.fact(f"At the end the {club} refunds {refund.amount}.")
        total = s.sub(total, refund, "the cost after the refund", "dollars")
    if d.steps in (2, 3):
        joining = s.given(d.upto(d.cap - total.value, 1), "the joining fee", "dollars")
        s.fact(f"There is also a single joining fee of {joining.amount}.")
        s.add((total, joining), "the cost of the membership", "dollars")
    if d.steps == 4:
        budget = s.given(d.between(total.value + 1, d.cap), "the budget", "dollars")
        s.fact(f"{who} had set aside {budget.amount} for all of this.")
        s.sub(budget, total, "the money left of the budget", "dollars")
        return s.question("How many dollars of that are left?", "There are {} left.")
    if d.steps == 5:
        rival = s.given(d.between(total.value + 1, d.cap), "the price of a yearly pass", "dollars")
        s.fact(f"A yearly pass with everything would have cost {rival.amount}.")
        s.sub(rival, total, "the saving against the yearly pass", "dollars")
        ask = f"How many dollars less than the yearly pass did {who} pay?"
        return s.question(ask, f"{who} paid {{}} less.")
    s.question(f"How many dollars does {who} pay altogether?", f"{who} pays {{}} altogether.")


@family("fundraiser", (3, 8))
def fundraiser(d: Draw, s: Story) -> None:
    """Runners earn money per lap; how far the group is from its goal."""
    runners = d.names(d.steps - 2)
    sums = []
    for who in runners:
        laps, money = d.pair((d.cap - 1) // len(runners))
        number = s.given(laps, f"the laps of {who}", "laps")
        each = s.given(money, f"the money per lap for {who}", "dollars")
        s.fact(f"{who} runs {number.amount} and gets {each.amount} per lap for the school.")
        sums.append(s.mul(number, each, f"the money {who} raised", "dollars"))
    if len(sums) == 1:
        bonus = s.given(d.upto((d.cap - sums[0].value) // 2, 1), "the bonus", "dollars")
        s.fact(f"A shop adds a bonus of {bonus.amount}.")
        sums.append(bonus)
    total = s.add(sums, "the money raised so far", "dollars")
    goal = s.given(d.between(total.value + 1, d.cap), "the goal", "dollars")
    s.fact(f"The goal is {goal.amount}.")
    s.sub(goal, total, "the money missing to the goal", "dollars")
    ask = f"How many dollars are missing after {listing(runners)} ran?"
    s.question(ask, "There are {} missing.")


@family("discount", (3, 5), min_cap=300)
def discount(d: Draw, s: Story) -> None:
    """A percentage off a price, by way of one percent."""
    who, thing = d.name(), d.one(("sofa", "laptop", "wardrobe", "guitar", "camera"))
    price = s.given(100 * d.between(1, d.cap // 100), f"the price of the {thing}", "dollars")
    rate = s.given(5 * d.between(1, 12), "the discount in percent", "percent")
    s.fact(f"A {thing} costs {price.amount}, and a shop takes {rate.value}% off that price.")
    hundred = s.given(100, "the parts in a whole", "percent", spelled="%")
    one = s.div(price, hundred, "one percent of the price", "dollars")
    off = s.mul(one, rate, "the discount", "dollars")
    pay = s.sub(price, off, "the price after the discount", "dollars")
    if d.steps >= 4:
        delivery = s.given(d.upto(d.cap // 10), "the delivery fee", "dollars")
        s.fact(f"Delivery costs {delivery.amount} on top.")
        pay = s.add((pay, delivery), "the price with delivery", "dollars")
    if d.steps >= 5:
        rates = s.given(d.divisor(pay.value), "the number of instalments", "instalments")
        s.fact(f"{who} pays everything in {counted(rates.value, 'equal instalments')}.")
        s.div(pay, rates, "one instalment", "dollars")
        return s.question("How many dollars is one instalment?", "One instalment is {}.")
    s.question(f"How many dollars does {who} pay for the {thing}?", f"{who} pays {{}}.")
