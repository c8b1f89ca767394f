"""A story's solution in a few plain sentences, told the same way every time.

For models too small to learn the wordings of :mod:`narrate`: goal, a sentence per step, one check,
the answer. About half of it is mathematics, so that a short budget has to leave some of that out.
The check undoes the last step. To work out the whole again in one line was more than a model of
half a million weights could do, and it then believed the wrong sum.
"""

from __future__ import annotations

from itertools import chain, repeat

from extracot_training.synthetic.narrate import PLAIN, plain_equation
from extracot_training.synthetic.story import INVERSE, Step, Story


def brief(story: Story) -> str:
    """``I need … First …: 5 - 1 = 4. Then …: 4 + 6 = 10. Check: 10 - 6 = 4. The answer is 10.``"""
    answer = story.answer
    openings = chain(["First"], repeat("Then"))
    sentences = [
        f"I need {answer.what}.",
        *(
            f"{opening} {step.result.what}: {plain_equation(step)}."
            for opening, step in zip(openings, story.steps, strict=False)
        ),
        f"Check: {undone(story.steps[-1])}.",
        f"The answer is {answer.value}.",
    ]
    return " ".join(sentences)


def undone(step: Step) -> str:
    """A step the other way round: ``4 + 6 = 10`` is ``10 - 6 = 4``, ``2 + 3 + 4 = 9`` is
    ``9 - 4 - 3 = 2``."""
    first, *others = (term.value for term in step.terms)
    sign = f" {PLAIN[INVERSE[step.op]]} "
    return f"{sign.join(map(str, [step.result.value, *reversed(others)]))} = {first}"


def brief_final(story: Story) -> str:
    """What follows the reasoning: a sentence and ``\\boxed{}``."""
    answer = story.answer
    return f"{story.reply.format(answer.amount)} \\boxed{{{answer.value}}}"
