"""Tells a story's solution: verbosely, as reasoning models do, briefly, or in its equations alone.

All numbers come from the story's steps, which are right by construction; every further equation
(checks, other routes) is computed here from them. This module does not know families.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from extracot_training.synthetic.phrases import Phrases
from extracot_training.synthetic.story import INVERSE, Op, Quantity, Step, Story, listing

PLAIN = {op: op.value for op in Op}
ASCII = PLAIN | {Op.MUL: "*", Op.DIV: "/"}
LATEX = PLAIN | {Op.MUL: "\\times", Op.DIV: "\\div"}
# A one-line check longer than this many characters is no help to a reader; go backwards instead.
LONGEST_ONE_LINE = 120


class Narrator:
    """Tells one story. The same story, ``rng`` state and ``verbosity`` give the same text.

    ``verbosity`` (0 to 1) scales how often hedges, detours, repeats and second checks occur; the
    restatement, the plan, the steps, one check and the conclusion are always there.
    """

    def __init__(self, story: Story, rng: Random, verbosity: float = 1.0) -> None:
        self._story = story
        self._rng = rng
        self._verbosity = verbosity
        self._phrases = Phrases(rng)
        self._signs = rng.choice((PLAIN, PLAIN, ASCII))
        self._latex_share = rng.choice((0.0, 0.15, 0.35))

    def verbose(self) -> str:
        """Restate, plan, compute step by step, double-check, conclude; paragraphs."""
        parts = [
            self._restatement(),
            self._plan(),
            *self._computation(),
            self._double_check(),
            self._conclusion(),
        ]
        return "\n\n".join(parts)

    def final(self) -> str:
        """What follows the reasoning: a sentence and ``\\boxed{}``."""
        answer = self._story.answer
        reply = self._story.reply.format(answer.amount)
        return self._phrases.say("answer", reply=reply, value=answer.value)

    def _sometimes(self, share: float) -> bool:
        """True in ``share`` of cases at full verbosity, less often below it."""
        return self._rng.random() < share * self._verbosity

    def _restatement(self) -> str:
        story, say = self._story, self._phrases.say
        sentences = [
            say("open"),
            say("restate", facts=" ".join(story.facts)),
            say("ask", ask=story.ask),
            say("goal", what=story.answer.what),
        ]
        if not self._sometimes(1.0):
            return " ".join(sentences)
        # A number that the text spells out ("twice") is not one of those "given" in digits.
        given = [f"{q.what} is {q.value}" for q in story.givens if q.spelled is None]
        if self._rng.random() < 0.4:
            sentences.append(say("givens_list"))
            return " ".join(sentences) + "\n" + "\n".join(f"- {line}" for line in given)
        sentences.append(say("givens", givens=listing(given)))
        return " ".join(sentences)

    def _plan(self) -> str:
        say = self._phrases.say
        results = [step.result.what for step in self._story.steps]
        rest = [say("plan_next", what=what) for what in results[1:-1]]
        rest.append(say("plan_last", what=results[-1]))
        return say("plan", first=results[0], rest=" ".join(rest))

    def _computation(self) -> Iterator[str]:
        story = self._story
        middle = len(story.steps) // 2
        for position, step in enumerate(story.steps):
            sentences = list(self._step(position, step))
            if position == middle and len(story.steps) > 2 and self._sometimes(1.0):
                sentences.append(self._summary(position))
            yield " ".join(sentences)

    def _step(self, position: int, step: Step) -> Iterator[str]:
        say, rng = self._phrases.say, self._rng
        last = position == len(self._story.steps) - 1
        yield say("step" if position else "step_first", what=step.result.what)
        yield self._reason(step)
        detour = self._detour(position, step)
        if detour and self._sometimes(0.5):
            yield detour
        yield say("equation", eq=self.equation(step))
        if self._sometimes(0.35) and (other := self._other_way(step)):
            yield say("recompute", eq=other)
        amount = rng.choice((step.result.amount, str(step.result.value)))
        yield say("result", what=step.result.what, amount=amount)
        if not last and self._sometimes(0.2):
            yield say("reread", ask=self._story.ask, what=step.result.what)
        elif self._sometimes(0.45):
            yield say("hedge")

    def _reason(self, step: Step) -> str:
        named = [f"{term.what} ({term.value})" for term in step.terms]
        if step.op is Op.ADD:
            return self._phrases.say("add", terms=listing(named))
        return self._phrases.say(step.op.name.lower(), a=named[0], b=named[1])

    def _detour(self, position: int, step: Step) -> str | None:
        """A remark that leads nowhere, and never says anything false."""
        say = self._phrases.say
        later = [
            term.what
            for other in self._story.steps[position + 1 :]
            for term in other.terms
            if term.step is None and term.spelled is None and term not in step.terms
        ]
        if later and self._rng.random() < 0.5:
            return say("not_yet", what=self._rng.choice(later))
        by_operation = {Op.MUL: "not_adding", Op.SUB: "not_the_other_way", Op.DIV: "shares"}
        bank = by_operation.get(step.op)
        return say(bank) if bank else None

    def _other_way(self, step: Step) -> str | None:
        """The step by another equation: a product split at its tens, or the inverse."""
        left, right = step.terms[0].value, step.terms[1].value
        tens, ones = left - left % 10, left % 10
        if step.op is Op.MUL and tens and ones:
            plus, times = self._signs[Op.ADD], self._signs[Op.MUL]
            high, low = tens * right, ones * right
            return (
                f"{tens} {times} {right} = {high} and {ones} {times} {right} = {low}, "
                f"and {high} {plus} {low} = {step.result.value}"
            )
        if step.op in (Op.ADD, Op.MUL):
            swapped = [term.value for term in reversed(step.terms)]
            return equation(step.op, swapped, step.result.value, self._signs)
        return self._inverse(step)

    def _summary(self, position: int) -> str:
        results = [step.result for step in self._story.steps[: position + 1]]
        listed = listing([f"{result.what} is {result.amount}" for result in results])
        return self._phrases.say("summary", results=listed)

    def _double_check(self) -> str:
        say = self._phrases.say
        routes = [self._backwards, self._again]
        whole = self._one_line()
        if len(whole) <= LONGEST_ONE_LINE:
            routes.append(lambda: say("whole", eq=whole))
        twice = len(self._story.steps) <= 4 and self._sometimes(1.0)
        chosen = self._rng.sample(routes, 2 if twice else 1)
        sentences = [say("check_open"), *(route() for route in chosen), say("check_close")]
        return " ".join(sentences)

    def _backwards(self) -> str:
        say = self._phrases.say
        sentences = [say("back_open", amount=self._story.answer.amount)]
        for step in reversed(self._story.steps):
            if (undone := self._inverse(step)) is not None:
                sentences.append(say("back_step", eq=undone, what=step.terms[0].what))
        return " ".join(sentences)

    def _again(self) -> str:
        redone = [self._other_way(step) or self.equation(step) for step in self._story.steps]
        return f"{self._phrases.say('again_open')} {'. '.join(redone)}."

    def _one_line(self) -> str:
        story = self._story
        return f"{expression(story, story.answer, self._signs)} = {story.answer.value}"

    def _inverse(self, step: Step) -> str | None:
        """``105 ÷ 3 = 35`` for ``35 × 3 = 105``: from the result back to the first term."""
        first, *others = (term.value for term in step.terms)
        back = INVERSE[step.op]
        if back is Op.DIV and 0 in others:
            return None
        return equation(back, [step.result.value, *others], first, self._signs)

    def _conclusion(self) -> str:
        say, answer = self._phrases.say, self._story.answer
        end = say("conclude", value=answer.value, what=answer.what, amount=answer.amount)
        return f"{say('sense')} {end}" if self._sometimes(0.6) else end

    def equation(self, step: Step) -> str:
        """The step as plain text, or now and then as inline LaTeX."""
        values = [term.value for term in step.terms]
        latex = self._rng.random() < self._latex_share
        text = equation(step.op, values, step.result.value, LATEX if latex else self._signs)
        return f"${text}$" if latex else text


def _needs_brackets(outer: Op, inner: Op | None, place: int) -> bool:
    """Whether a compound term in this place of an ``outer`` operation must be bracketed."""
    if inner is None:
        return False
    sums = (Op.ADD, Op.SUB)
    if outer in sums:
        return inner in sums and place > 0
    return inner in sums or place > 0


def expression(story: Story, quantity: Quantity, signs: Mapping[Op, str] = PLAIN) -> str:
    """The quantity as an expression of given numbers, with no brackets but the needed ones."""
    if quantity.step is None:
        return str(quantity.value)
    step = story.steps[quantity.step]
    parts = []
    for place, term in enumerate(step.terms):
        text = expression(story, term, signs)
        inner = None if term.step is None else story.steps[term.step].op
        parts.append(f"({text})" if _needs_brackets(step.op, inner, place) else text)
    return f" {signs[step.op]} ".join(parts)


def equation(op: Op, values: Sequence[int], result: int, signs: Mapping[Op, str] = PLAIN) -> str:
    """``35 × 3 = 105``."""
    return f"{f' {signs[op]} '.join(map(str, values))} = {result}"


def plain_equation(step: Step) -> str:
    """The step as plain text, with the signs of print."""
    return equation(step.op, [term.value for term in step.terms], step.result.value)


def terse(story: Story) -> str:
    """The solution's equations alone, one per line."""
    return "\n".join(map(plain_equation, story.steps))


def brief(story: Story) -> str:
    """``I need … First …: 5 - 1 = 4. Then …: 4 + 6 = 10. Check: 10 - 6 = 4. The answer is 10.``

    For models too small to learn the wordings of :class:`Narrator`: goal, a sentence per step, one
    check, the answer. About half of it is mathematics, so that a short budget has to leave some of
    that out. The check undoes the last step. To work out the whole again in one line was more than
    a model of half a million weights could do, and it then believed the wrong sum.
    """
    sentences = [
        f"I need {story.answer.what}.",
        *(
            f"{'Then' if place else 'First'} {step.result.what}: {plain_equation(step)}."
            for place, step in enumerate(story.steps)
        ),
        f"Check: {undone(story.steps[-1])}.",
        f"The answer is {story.answer.value}.",
    ]
    return " ".join(sentences)


def undone(step: Step) -> str:
    """A step the other way round: ``4 + 6 = 10`` is ``10 - 6 = 4``, ``2 + 3 + 4 = 9`` is
    ``9 - 4 - 3 = 2``."""
    first, *others = (term.value for term in step.terms)
    return equation(INVERSE[step.op], [step.result.value, *reversed(others)], first)


def brief_final(story: Story) -> str:
    """What follows the reasoning: a sentence and ``\\boxed{}``."""
    answer = story.answer
    return f"{story.reply.format(answer.amount)} \\boxed{{{answer.value}}}"
