"""Cuts a reasoning trace into steps: its sentences, of which a compressor keeps some.

A sentence ends at ``.``, ``?`` or ``!`` (with closing quotes or brackets) before white space and
anything but a small letter, or at a line break; never inside mathematics, never after an
abbreviation, nor behind a factorial that an operator follows (``3! = 6``). White space belongs to
the step before it, so the steps cover the text. Where a trace is marked sentence by sentence, the
numbers of this cutting are meant. Cutting takes time linear in the length. This module does not
know atoms, budgets or models.
"""

from __future__ import annotations

import re
from bisect import bisect_left

# `\[...\]`, `$$...$$` and `\(...\)` may run over several lines, `$...$` may not.
_OPENING = re.compile(r"\\\[|\$\$|\\\(|(?<![\\$])\$(?!\$)")
_CLOSING = {"\\[": "\\]", "$$": "$$", "\\(": "\\)"}
_INLINE = re.compile(r"\$(?:\\.|[^$\n\\])+\$", re.DOTALL)
_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^a-z\s])|\n+\s*")
_FACTORIAL = re.compile(r"(?:[\d)\]}]|(?<![^\W_])[^\W\d_])!+$")
_OPERATORS = frozenset("=+-−*×·∙/÷^<>≤≥≈≠")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|vs|cf|Mr|Mrs|Dr|No)\.$")
# Longer than any abbreviation, or factorial, with what stands before it, which tells a beginning.
_LOOK_BACK = 6


def steps(text: str) -> list[tuple[int, int]]:
    """Half-open character spans of the sentences of ``text``: in order, without gaps, covering it.

    >>> [("So x = 3. Wait, no."[a:b]) for a, b in steps("So x = 3. Wait, no.")]
    ['So x = 3. ', 'Wait, no.']
    """
    if not text:
        return []
    inside = formula_spans(text)
    ends = [end for _, end in inside]
    cuts = [0]
    for found in _BREAK.finditer(text):
        begin, at = found.span()
        formula = bisect_left(ends, begin + 1)
        if formula < len(inside) and inside[formula][0] <= begin:
            continue
        if found.group()[0] != "\n" and _ABBREVIATION.search(_before(text, begin)):
            continue
        goes_on = text[at : at + 1] in _OPERATORS and "\n" not in found.group()
        if goes_on and _FACTORIAL.search(text[max(0, begin - _LOOK_BACK) : begin]):
            continue
        if cuts[-1] < at < len(text):
            cuts.append(at)
    return list(zip(cuts, [*cuts[1:], len(text)], strict=True))


def formula_spans(text: str) -> list[tuple[int, int]]:
    """Half-open spans of delimited mathematics, in order and disjoint. What isn't closed is none.

    >>> formula_spans("If $x$ is 2")
    [(3, 6)]
    """
    found: list[tuple[int, int]] = []
    unclosed: set[str] = set()
    at = 0
    while opening := _OPENING.search(text, at):
        begin, at = opening.start(), opening.start() + 1
        closing = _CLOSING.get(opening.group())
        if closing is None:
            formula = _INLINE.match(text, begin)
            end = formula.end() if formula else -1
        elif closing in unclosed:
            end = -1
        else:
            stop = text.find(closing, begin + 2)
            if stop < 0:
                unclosed.add(closing)
            end = stop + 2 if stop >= 0 else -1
        if end > 0:
            found.append((begin, end))
            at = end
    return found


def step_at(spans: list[tuple[int, int]], position: int) -> int:
    """Index of the step that holds this character; the last one for a position at the end."""
    return min(bisect_left([end for _, end in spans], position + 1), len(spans) - 1)


def _before(text: str, at: int) -> str:
    """The end of the word that a break at ``at`` follows; a closing bracket is part of it."""
    return text[max(0, at - _LOOK_BACK) : at + 1].rstrip()
