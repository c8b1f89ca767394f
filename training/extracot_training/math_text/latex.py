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
_TOKEN = re.compile(r"\\[\\$()\[\]{}]|\$\$?|[{}]")


def latex_spans(text: str) -> list[LatexSpan]:
    """Outermost LaTeX spans of ``text``, sorted and disjoint.

    Inline `$..$` follows Pandoc's rule (no white space inside the dollars, no digit after the
    closing one, the next dollar decides), so that prices stay prices. No math but an environment
    runs over a blank line: TeX itself forbids it, and it bounds what one stray delimiter swallows.
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
        if close is None or _crosses(blank, start, stop := tokens[close][2]):
            continue
        spans.append((start, stop, "math"))
        index = close + 1
    return spans


def _is_inline(text: str, begin: int, closer: tuple[str, int, int]) -> bool:
    token, at, end = closer
    return (
        token == "$"
        and at > begin
        and not text[begin].isspace()
        and not text[at - 1].isspace()
        and not text[end : end + 1].isdigit()
    )


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
