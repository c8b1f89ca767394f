"""Where LaTeX stands in a text: inline and display math, environments, `\\boxed{}`.

Finds spans only; it does not parse what is inside, and knows nothing of plain-text mathematics.
Unbalanced delimiters open nothing. Every search is a pass over the text or a look-up in sorted
positions, so the whole is linear in the text's length (times a logarithm), whatever it holds.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from typing import Literal

from extracot_training.math_text.vocabulary import FUNCTIONS, is_symbol

# Start, end (half-open) and kind. ``boxed`` is a `\\boxed{}` outside any other math.
LatexSpan = tuple[int, int, Literal["math", "boxed"]]

# Environments of prose: their content is text to be cut into words like any other.
_PROSE = (
    "abstract center corollary definition description document enumerate example figure flushleft "
    "flushright itemize lemma minipage proof proposition quotation quote solution table theorem "
    "verse"
)
PROSE_ENVIRONMENTS = frozenset(_PROSE.split())

_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_ENVIRONMENT = re.compile(r"\\(begin|end)[ \t]*\{([A-Za-z]+\*?)\}")
_BOXED = re.compile(r"\\boxed\b[ \t]*(?=\{)")
# Formulas with white space inside their dollars, and with blank lines, are at most this long.
LONGEST_SPACED = 400
LONGEST_WITH_BLANKS = 4000
# Text inside a formula, which says nothing about where the formula ends.
_WORDING = re.compile(
    r"\\(?:text\w*|mathrm|mathbf|operatorname|mbox|begin|end)\*?\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_SIGNS = re.compile(r"[\\^_=<>+*/]")
_SENTENCE = re.compile(r"(?<![^\W\d_])[^\W\d_]{2,}[,;]?\s+[^\W\d_]{2,}[,;]?\s+[^\W\d_]{2,}")
_PROSE_BEHIND_A_PRICE = re.compile(rf"{_SENTENCE.pattern}|[.!?]\s")
_TOKEN = re.compile(r"\\[\\$()\[\]{}]|\$\$?|[{}]")


def latex_spans(text: str) -> list[LatexSpan]:
    """Outermost LaTeX spans of ``text``, sorted and disjoint.

    Inline `$..$` follows Pandoc's rule (no white space inside the dollars, no digit after the
    closing one, the next dollar decides), so that prices stay prices; as KaTeX does, it also takes
    `$ x $`, if what is inside looks like a formula. Display math may hold blank lines on the same
    condition; no other math but an environment does, so that a stray delimiter swallows little.
    """
    blank = [match.start() for match in _BLANK_LINE.finditer(text)]
    found = [*_environments(text), *_delimited(text, blank), *_boxes(text, blank)]
    spans: list[LatexSpan] = []
    for span in sorted(found, key=lambda span: (span[0], -span[1])):
        if not spans or span[0] >= spans[-1][1]:
            spans.append(span)
    return spans


def _environments(text: str) -> list[LatexSpan]:
    spans: list[LatexSpan] = []
    stack: list[tuple[str, int]] = []
    opened: defaultdict[str, int] = defaultdict(int)
    for match in _ENVIRONMENT.finditer(text):
        verb, name = match.groups()
        if name in PROSE_ENVIRONMENTS:
            continue
        if verb == "begin":
            stack.append((name, match.start()))
            opened[name] += 1
        elif opened[name]:
            other = ""
            while other != name:
                other, start = stack.pop()
                opened[other] -= 1
            spans.append((start, match.end(), "math"))
    return spans


def _delimited(text: str, blank: list[int]) -> list[LatexSpan]:
    tokens = [
        (match.group(), match.start(), match.end())
        for match in _TOKEN.finditer(text)
        if match.group() in ("$", "$$", "\\(", "\\)", "\\[", "\\]")
    ]
    closers: defaultdict[str, list[int]] = defaultdict(list)
    for index, (token, _, _) in enumerate(tokens):
        closers[token].append(index)
    pairs = {"$$": "$$", "\\(": "\\)", "\\[": "\\]"}
    spans: list[LatexSpan] = []
    index = 0
    while index < len(tokens):
        token, start, end = tokens[index]
        index += 1
        if token == "$":
            inline = index < len(tokens) and _is_inline(text, end, tokens[index])
            close = index if inline else None
        else:
            where = closers[pairs[token]] if token in pairs else []
            position = bisect_left(where, index)
            close = where[position] if position < len(where) else None
            if close is not None and token != "$$" and _reopened(closers[token], index, close):
                continue
        if close is None:
            continue
        stop = tokens[close][2]
        if _crosses(blank, start, stop) and (token == "$" or not _is_display(text[start:stop])):
            continue
        spans.append((start, stop, "math"))
        index = close + 1
    return spans


def _reopened(openers: list[int], index: int, close: int) -> bool:
    """Whether the same delimiter opens once more before it closes: then the first one is stray."""
    position = bisect_left(openers, index)
    return position < len(openers) and openers[position] < close


def _is_display(formula: str) -> bool:
    """Whether a formula with blank lines in it is one: it holds no sentence."""
    return len(formula) <= LONGEST_WITH_BLANKS and not _SENTENCE.search(_WORDING.sub(" ", formula))


def _is_inline(text: str, begin: int, closer: tuple[str, int, int]) -> bool:
    token, at, end = closer
    if token != "$" or at <= begin or text[end : end + 1].isdigit():
        return False
    if not text[begin].isspace() and not text[at - 1].isspace():
        return not (text[begin].isdigit() and _PROSE_BEHIND_A_PRICE.search(text, begin, at))
    inside = _WORDING.sub(" ", text[begin:at]).strip()
    if at - begin > LONGEST_SPACED or not text[begin:at].strip():
        return False
    # "$ 5 + $ 7", "$ 5, $ 7": prices.
    ending = inside[-1:] in "+-−–×*/=<>" or text[end : end + 2].lstrip(" ")[:1].isdigit()
    if inside[:1].isdigit() and ending:
        return False
    if not inside[:1].isdigit() and _SIGNS.search(text, begin, at):
        return not _SENTENCE.search(inside)
    return all(map(_is_name, _WORD.findall(inside)))


def _is_name(word: str) -> bool:
    named = is_symbol(word) or word in FUNCTIONS or word.isupper()
    return named or not set(word.lower()) & set("aeiou")


def _boxes(text: str, blank: list[int]) -> list[LatexSpan]:
    wanted = {match.end(): match.start() for match in _BOXED.finditer(text)}
    if not wanted:
        return []
    spans: list[LatexSpan] = []
    stack: list[int] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            stack.append(match.start())
        elif token == "}" and stack:
            start = wanted.get(stack.pop())
            if start is not None and not _crosses(blank, start, match.end()):
                spans.append((start, match.end(), "boxed"))
    return spans


def _crosses(blank: list[int], start: int, end: int) -> bool:
    position = bisect_left(blank, start)
    return position < len(blank) and blank[position] < end
