r"""Prepares a model's text for a page: mathematics is marked, HTML is escaped.

Models write mathematics as ``$x$``, ``$$x$$``, ``\(x\)``, ``\[x\]`` or as a bare ``\boxed{x}``;
the page knows :data:`LATEX_DELIMITERS` only, so that a price (``$5``) never becomes a formula.
Tags and pictures in a reply are shown as text, so that a reply can make the page load nothing.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Literal

LATEX_DELIMITERS: list[dict[str, str | bool]] = [
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
# A formula longer than this is more likely two stray marks; it also bounds the search for its end.
_LONGEST = 2000
_PART = re.compile(
    rf"""
      (?P<code>```.*?(?:```|\Z)|`[^`\n]+`)
    | \\\[(?P<display>.{{1,{_LONGEST}}}?)\\\]
    | \$\$(?P<dollars>.{{1,{_LONGEST}}}?)\$\$
    | \\\((?P<inline>.{{1,{_LONGEST}}}?)\\\)
    | (?<![\\$\w])\$(?P<dollar>[^\s$]|[^\s$][^$\n]{{0,{_LONGEST}}}?[^\s$\\])\$(?![\w$])
    | (?P<box>\\boxed\s*\{{)
    """,
    re.DOTALL | re.VERBOSE,
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_JOINER = "\u2060"  # invisible; nothing is a tag or a picture that has one behind its first sign


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a reply: plain text, code with its back-ticks, or a formula without marks."""

    kind: Literal["text", "code", "inline", "display"]
    text: str


def spans(text: str) -> list[Span]:
    r"""Cut a reply into text, code and formulas.

    >>> [span.kind for span in spans(r"So $x$ is \boxed{5}, for $5.")]
    ['text', 'inline', 'text', 'inline', 'text']
    """
    found: list[Span] = []
    plain_from = position = 0
    while (match := _PART.search(text, position)) is not None:
        end = match.end()
        display = match["display"] or match["dollars"]
        inline = match["inline"] or match["dollar"]
        if match["box"]:
            closed = _closing_brace(text, end)
            if closed is None:  # Still on its way, or never closed: text.
                position = end
                continue
            end = closed
            inline = text[match.start() : end]
        if plain_from < match.start():
            found.append(Span("text", text[plain_from : match.start()]))
        if match["code"]:
            found.append(Span("code", match["code"]))
        elif display:
            found.append(Span("display", display))
        else:
            found.append(Span("inline", inline or ""))
        plain_from = position = end
    if plain_from < len(text):
        found.append(Span("text", text[plain_from:]))
    return found


def to_markdown(text: str) -> str:
    r"""A reply as Markdown for a component with :data:`LATEX_DELIMITERS`.

    >>> to_markdown(r"<b>so</b> $x<2$: \boxed{7}")
    '&lt;b>so&lt;/b> \\(x<2\\): \\(\\boxed{7}\\)'

    What Markdown takes for code or a formula may be another stretch than what :func:`spans` does,
    so neither is passed on as it is.
    """

    def made(span: Span) -> str:
        if span.kind == "text":
            return _TAG.sub("&lt;", span.text).replace("![", "&#33;[")
        if span.kind == "code":
            return _TAG.sub(f"<{_JOINER}", span.text).replace("![", f"!{_JOINER}[")
        return _TAG.sub("< ", _formula(span)).replace("![", "!{}[")

    return "".join(map(made, spans(text)))


def to_html(text: str) -> str:
    """A reply as one line of HTML for inside a block of Markdown; formulas keep their marks."""

    def made(span: Span) -> str:
        if span.kind == "text":
            return _one_line(html.escape(span.text))
        if span.kind == "code":
            return f"<code>{_one_line(html.escape(span.text.strip('`')))}</code>"
        return html.escape(_formula(span))

    return "".join(map(made, spans(text.strip())))


def _formula(span: Span) -> str:
    inner = " ".join(span.text.split())  # A blank line would end the paragraph, and the formula.
    return f"\\[{inner}\\]" if span.kind == "display" else f"\\({inner}\\)"


def _one_line(escaped: str) -> str:
    """Line ends as tags; characters that Markdown would read are left to the HTML block."""
    return re.sub(r"\s*\n\s*\n\s*", "<br><br>", escaped).replace("\n", "<br>")


def _closing_brace(text: str, start: int) -> int | None:
    """Where the brace opened before ``start`` is closed; ``None`` if nowhere near."""
    depth = 1
    for match in _BRACE.finditer(text, start, start + _LONGEST):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                return match.end()
    return None
