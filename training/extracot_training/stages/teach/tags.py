"""Takes the think tags off traces of one's own: what renders a trace later writes its own.

Traces come from many models, so many spellings are known. Knows texts only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from extracot.think_tags import PAIRS, has_tags

_AROUND_ANSWER = re.compile(
    r"</?(?:answer|solution|response)>|<\|(?:begin|end)_of_solution\|>"
    r"|<\|start\|>assistant<\|channel\|>final<\|message\|>|<\|return\|>"
)


@dataclass(frozen=True, slots=True)
class Untagged:
    """``reasoning`` without its tags and the ``answer`` behind them. ``fault`` says why it can't be
    told: ``unclosed``, or ``think_tags`` where there are others or text before."""

    reasoning: str
    answer: str = ""
    fault: str | None = None


def untagged(text: str) -> Untagged:
    """A trace as reasoning and answer; a text without tags is reasoning alone.

    >>> untagged("<think>\\n1 + 1 = 2\\n</think>\\n<answer>2</answer>")
    Untagged(reasoning='1 + 1 = 2', answer='2', fault=None)
    >>> untagged("1 + 1 = 2 </think> 2").answer, untagged("<think> hm").fault
    ('2', 'unclosed')
    """
    if not has_tags(text):
        return Untagged(text)
    for start, end in PAIRS:
        if start not in text and end not in text:
            continue
        before, opened, inside = text.partition(start)
        if not opened:
            before, inside = "", text
        reasoning, closed, answer = inside.partition(end)
        answer = _AROUND_ANSWER.sub("", answer).strip()
        if not closed:
            return Untagged(text, fault="unclosed")
        if before.strip() or has_tags(reasoning) or has_tags(answer):
            break
        return Untagged(reasoning.strip(), answer)
    return Untagged(text, fault="think_tags")
