"""Ways of asking for a calculation in a sentence. Templates only; the numbers come from a task."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

# ``{e}`` is a noun phrase or a formula.
ANY = (
    "What is {e}?", "What's {e}?", "what is {e}", "whats {e}?", "Calculate {e}.", "Compute {e}.",
    "compute {e}", "How much is {e}?", "how much is {e}", "Work out {e}.", "Find {e}.",
    "Please calculate {e}.", "Please work out {e} for me.", "Can you tell me what {e} is?",
    "Can you calculate {e}?", "Could you work out {e}, please?", "I need to know {e}.",
    "Tell me {e}.", "Hi, what is {e}?", "Hello! Can you help me with {e}?", "Evaluate {e}.",
    "Determine {e}.", "Give me {e}.", "Do you know what {e} is?", "I can't work out {e}. Can you?",
    "My homework asks for {e}. What should I write?", "What do you get for {e}?",
    "What does {e} come to?", "What number is {e}?", "Quick question: what is {e}?",
    "Which number is {e}?", "My calculator is broken. What is {e}?", "Help me find {e}.",
    "Write down {e}.", "The next exercise is: find {e}.", "What would {e} be?",
    "I would like to know {e}.", "Without a calculator, what is {e}?", "Say what {e} is.",
    "A pupil has to find {e}. What is the right answer?", "What is the value of {e}?",
    "Let me know what {e} is.", "What is the result of {e}?", "In my head I can't do {e}. Help me.",
)  # fmt: skip
# For formulas alone.
FORMULA = (
    "{e} = ?", "{e} =", "{e}=", "{e}=?", "{e}", "{e}?", "Solve {e}.", "Solve: {e}", "solve {e}",
    "What does {e} equal?", "What does {e} make?", "Calculate: {e}", "Compute: {e} = ?",
    "Fill in the blank: {e} = __", "What goes after the equals sign in {e} = ?", "answer this: {e}",
    "How much does {e} make?", "{e} equals what?", "Simplify {e}.", "The sum on the board is {e}. "
    "What is the answer?", "Complete: {e} = ...", "I typed {e} into my calculator. What does it "
    "show?",
)  # fmt: skip
SIGNS: Mapping[str, tuple[str, ...]] = {
    "sum": (" + ", " + ", "+", " plus "),
    "difference": (" - ", " - ", "-", " minus ", " − "),
    "product": (" × ", " x ", "*", " * ", "×", " times ", " multiplied by "),
    "quotient": (" ÷ ", " / ", "/", " divided by ", "÷"),
    "halves": (" ÷ ", " / ", "/", " divided by "),
}
NOUNS: Mapping[str, tuple[str, ...]] = {
    "sum": (
        "the sum of {a} and {b}", "the total of {a} and {b}", "{b} more than {a}",
        "{a} and {b} together", "{a} increased by {b}", "{a} added to {b}",
        "the number that is {b} greater than {a}", "{a} and {b} altogether",
    ),
    "difference": (
        "the difference between {a} and {b}", "the difference of {a} and {b}", "{b} less than {a}",
        "{a} decreased by {b}", "{a} take away {b}", "{b} subtracted from {a}",
        "the number that is {b} smaller than {a}", "{a} less {b}",
    ),
    "product": (
        "the product of {a} and {b}", "{a} groups of {b}", "{a} lots of {b}",
        "{a} times as much as {b}", "{b} taken {a} times",
    ),
    "quotient": (
        "the quotient of {a} and {b}", "{a} split into {b} equal parts",
        "{a} shared equally by {b}",
    ),
}  # fmt: skip
WHOLE: Mapping[str, tuple[str, ...]] = {
    "sum": (
        "Add {a} and {b}.", "Add {b} to {a}.", "If I add {a} to {b}, what do I get?",
        "If you put {a} and {b} together, how many do you have?", "How much are {a} and {b}?",
        "What do you get when you add {a} and {b}?", "{a} and then {b} more: how many is that?",
        "I had {a} and got {b} more. How many do I have now?", "Sum up {a} and {b}.",
        "Which number do I reach if I start at {a} and count {b} further?",
        "A number is {b} more than {a}. What is it?", "Take {a}, add {b}. What is the result?",
        "What number minus {b} is {a}?", "There are {a} here and {b} there. How many in all?",
    ),
    "difference": (
        "Subtract {b} from {a}.", "Take {b} away from {a}.", "Take {b} from {a}. What is left?",
        "What is left of {a} when {b} are gone?", "How much more is {a} than {b}?",
        "By how much is {b} smaller than {a}?", "What must be added to {b} to get {a}?",
        "{b} plus what number makes {a}?", "How far is it from {b} to {a}?",
        "I had {a} and gave away {b}. How many do I have left?", "Start at {a} and go down {b}. "
        "Where do you end?", "How many are missing from {b} to {a}?",
        "From {a}, subtract {b}. What remains?", "There were {a}, and {b} left. How many stayed?",
    ),
    "product": (
        "Multiply {a} by {b}.", "Multiply {a} and {b}.", "If I multiply {a} by {b}, what do I get?",
        "What do you get when you multiply {a} by {b}?", "How many are {a} rows of {b}?",
        "There are {a} boxes with {b} in each. How many in all?", "How much are {a} times {b}?",
        "What number divided by {a} is {b}?", "Each of {a} bags holds {b}. How many is that?",
        "{a} people give {b} each. How much do they give?", "Take {b}, {a} times over. What is it?",
        "How many squares does a grid of {a} by {b} have?",
    ),
    "quotient": (
        "Divide {a} by {b}.", "If I divide {a} by {b}, what do I get?",
        "How many times does {b} go into {a}?", "How often does {b} fit into {a}?",
        "{a} are shared equally by {b}. How many does each get?", "Split {a} into {b} equal parts. "
        "How big is each part?", "What number times {b} is {a}?", "How many groups of {b} are in "
        "{a}?", "What do you get when you divide {a} by {b}?", "{b} times what makes {a}?",
    ),
    "halves": (
        "Divide {a} by {b}.", "If I divide {a} by {b}, what do I get?", "What number times {b} is "
        "{a}?", "{a} dollars are shared equally by {b} people. How many dollars does each get?",
        "A rope of {a} metres is cut into {b} equal pieces. How many metres is each?",
        "What is {a} divided by {b} as a decimal?", "{b} times what makes {a}?",
    ),
    "below": ("What is {a} - {b}?", "What is {a} minus {b}?", "Compute {a} - {b}.", "{a} - {b} = ?",
        "Subtract {b} from {a}.", "It is {a} degrees and gets {b} degrees colder. How many degrees "
        "is it then?", "Calculate {a}-{b}.",
    ),
    "remainder": (
        "What is the remainder when {a} is divided by {b}?", "What is {a} mod {b}?",
        "What is left over when {a} is divided by {b}?", "Find the remainder of {a} ÷ {b}.",
        "I share {a} equally by {b} and give out whole ones only. How many are left over?",
        "{a} are packed in boxes of {b}. How many do not fill a box?", "Divide {a} by {b}. What is "
        "the remainder?", "How much is left when {b} is taken from {a} as often as possible?",
        "If {a} sweets are shared fairly by {b} children, how many sweets remain?",
    ),
    "times": (
        "How many whole times does {b} go into {a}?", "How many full boxes of {b} can I fill with "
        "{a}?", "How often can {b} be taken from {a}?", "{a} are packed in bags of {b}. How many "
        "bags are full?", "What is {a} divided by {b}, without the remainder?", "How many complete "
        "groups of {b} can be made from {a}?", "I have {a} dollars. How many tickets at {b} "
        "dollars can I buy?",
    ),
    "price sum": (
        "What is {a} + {b}?", "How much are {a} and {b} together?", "Add {a} and {b}.",
        "I buy one thing for {a} and one for {b}. What do I pay?", "What is {a} plus {b}?",
        "A sandwich costs {a} and a drink {b}. How much is that?", "{a} + {b} = ?",
        "I have {a} and find {b}. How much do I have?", "compute {a}+{b}", "Sum: {a} and {b}.",
    ),
    "price difference": (
        "What is {a} - {b}?", "I pay with {a} for something that costs {b}. What is my change?",
        "How much more is {a} than {b}?", "Subtract {b} from {a}.", "What is {a} minus {b}?",
        "I had {a} and spent {b}. How much is left?", "{a} - {b} = ?", "{a} less {b}, please.",
        "A shirt was {a} and is {b} cheaper now. What does it cost?", "compute {a}-{b}",
    ),
    "price product": (
        "What is {a} times {b}?", "What do {b} of them cost at {a} each?", "{b} × {a} = ?",
        "One costs {a}. How much are {b}?", "Multiply {a} by {b}.", "What is {b} * {a}?",
        "I buy {b} for {a} each. What do I pay?", "How much is {b} times {a}?",
        "{b} tickets at {a} each: how much in all?",
    ),
    "percent": (
        "What is {a}% of {b}?", "Find {a}% of {b}.", "How much is {a} percent of {b}?",
        "Calculate {a}% of {b}.", "{a}% of {b} = ?", "What is {a} percent of {b}?",
        "{a}% of {b} people agree. How many people is that?", "compute {a}% of {b}",
        "Out of {b}, {a}% are taken. How many is that?", "Take {a} percent of {b}.",
        "If {a}% of {b} apples are green, how many apples are green?", "Work out {a}% of {b}.",
        "A thing costs {b} dollars. How many dollars is {a}% of that?",
    ),
    "fraction": (
        "What is {a} of {b}?", "How much is {a} of {b}?", "Find {a} of {b}.", "compute {a} of {b}",
        "I ate {a} of {b} nuts. How many nuts did I eat?", "{a} of {b} = ?", "Work out {a} of {b}.",
        "Take {a} of {b}. What do you get?", "There are {b} children, and {a} of them walk. How "
        "many walk?", "How many are {a} of {b}?", "{a} of {b} pages are read. How many is that?",
    ),
}  # fmt: skip
# Signs as typed in a longer formula.
TYPED: tuple[Mapping[str, str], ...] = ({}, {}, {"×": "*"}, {"×": "x"}, {"-": "−"})


def ask(rng: Random, kind: str, parts: Mapping[str, str]) -> str:
    """One way of asking for the task, with the numbers in place."""
    manner = rng.random()
    if kind == "chain":
        return _filled(rng.choice((*ANY, *FORMULA)), {"e": _typed(rng, parts["e"])})
    if kind not in SIGNS or manner < 0.35:
        return _filled(rng.choice(WHOLE[kind]), parts)
    if manner < 0.75 or kind not in NOUNS:
        formula = parts["a"] + rng.choice(SIGNS[kind]) + parts["b"]
        return _filled(rng.choice((*ANY, *FORMULA)), {"e": formula})
    return _filled(rng.choice(ANY), {"e": rng.choice(NOUNS[kind]).format(**parts)})


def _typed(rng: Random, formula: str) -> str:
    for sign, typed in rng.choice(TYPED).items():
        formula = formula.replace(sign, typed)
    return formula.replace(" ", "") if rng.random() < 0.2 else formula


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """With a capital where a number in words begins the sentence."""
    text = template.format(**parts)
    return text[:1].upper() + text[1:] if template.startswith("{") else text
