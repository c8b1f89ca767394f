"""A story's solution in a few plain sentences, told the same way every time.

For models too small to learn the wordings of :mod:`narrate`: goal, a sentence per step, one check,
the answer. About half of it is mathematics, so that a short budget has to leave some of that out.
"""

from __future__ import annotations

from itertools import chain, repeat

from extracot_training.generator.narrate import PLAIN, expression, plain_equation
from extracot_training.generator.story import Story


def brief(story: Story) -> str:
    """``I need … First …: 5 - 1 = 4. Then …: 4 + 6 = 10. Check: 5 - 1 + 6 = 10. …``"""
    answer = story.answer
    openings = chain(["First"], repeat("Then"))
    sentences = [
        f"I need {answer.what}.",
        *(
            f"{opening} {step.result.what}: {plain_equation(step)}."
            for opening, step in zip(openings, story.steps, strict=False)
        ),
        f"Check: {expression(story, answer, PLAIN)} = {answer.value}.",
        f"The answer is {answer.value}.",
    ]
    return " ".join(sentences)


def brief_final(story: Story) -> str:
    """What follows the reasoning: a sentence and ``\\boxed{}``."""
    answer = story.answer
    return f"{story.reply.format(answer.amount)} \\boxed{{{answer.value}}}"
