"""Whether an answer goes on with reasoning that was cut off before it: an *escape*.

Three marks, each plain to see in the text: a think tag spelled out at an edge of a line, the very
sentence that was cut off going on, and second thoughts at the beginning of a sentence ("Wait, …").
A long answer is none, nor one that works a problem out: answers may do that. Knows text only.
"""

from __future__ import annotations

import re
from typing import Literal

from extracot.reasoning import ThinkTags

Escape = Literal["tag", "sentence", "second thought"]
"""The mark by which an escape is known."""

# Not in other senses ("Wait for the bus"), nor in somebody's mouth ('"Wait," she said').
_ENGLISH = r"""
    (?: (?:but|oh|no|actually) ,? \s+ )?
    (?:
        wait (?: \s* [,.!…—–] | \s+ - \s | \s+ a \s+ (?:minute|moment|second) \b | \s* $ )
      | hmm+ \b
      | hold \s+ on \s* [,.!…—–]
      | on \s+ second \s+ thought
      | scratch \s+ that \b
      | let \s+ me \s+ (?: (?:re-?|double[- ]) \w+ | check | think | verify | start \s+ over ) \b
      | that (?:'s|’s|\s+is) \s+ not \s+ right \b
    )
  | (?: okay | ok | alright ) ,? \s+ so \s+ (?: i \b | the \s+ user \b )
"""
_CHINESE = r"""
    (?: 等等 | 不对 | 嗯+ ) [，,。！!…]
  | 等一下
  | 让我 (?: 再 | 想 | 重新 | 检查 | 验证 )
  | 我再 (?: 想 | 检查 | 算 )
"""
# Where sentences begin, marks of a list, a quotation or a heading with them. Each stretch of marks
# and white space is read from its beginning alone, and once: answers may have thousands in a row.
_BEGINNING = r"""
    (?: \A | (?<=[.!?…:]) \s | (?<=[.!?…][)\]"”]) \s | (?<=[。！？：])
      | (?<![\s*_>#]) (?: [^\S\n] | [*_>#] )*+ \n )
    [\s*_>#]*+
"""
_SECOND_THOUGHT = re.compile(
    rf"""
    {_BEGINNING}
    (?: {_ENGLISH} | {_CHINESE} )
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_ENDED = re.compile(r"""(?:[.!?…][)\]"'”’*_}$]*|[。！？][」』）”]*|\$\$)\Z""")
_GOES_ON = re.compile(
    r"\s*(?:=(?!=)|[,;:)×÷·≈≤≥、，。；：）]|\.(?=\s|\Z)|(?P<word>[^\W\d_]{2,})(?![\w(.=]))"
)


def escape_of(answer: str, cut_off: str, tags: ThinkTags) -> Escape | None:
    """By which mark an answer goes on reasoning; ``None``: it does not, as far as can be told.

    ``cut_off`` is the reasoning that was cut off, or the end of it. Second thoughts are known in
    English and Chinese; the other marks in any language that has upper and lower case.

    >>> escape_of("Wait, 3 + 4 is 7.", "So it is 8.", ThinkTags())
    'second thought'
    >>> escape_of("times 4, which is 12.", "So we have 3", ThinkTags())
    'sentence'
    """
    if any(line.startswith(_both(tags)) or line.endswith(_both(tags)) for line in _lines(answer)):
        return "tag"
    if _goes_on(answer, cut_off):
        return "sentence"
    return "second thought" if _SECOND_THOUGHT.search(answer) else None


def _both(tags: ThinkTags) -> tuple[str, str]:
    return tags.start, tags.end


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def _goes_on(answer: str, cut_off: str) -> bool:
    """Whether the text was cut within a sentence, and the answer begins as nothing else does."""
    said = cut_off.rstrip()
    if not said or "\n" in cut_off[len(said) :] or _ENDED.search(said):
        return False
    begun = _GOES_ON.match(answer)
    if begun is None:
        return False
    word = begun["word"]
    return word is None or word.islower()
