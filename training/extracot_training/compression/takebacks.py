"""Words by which a step takes something back, checks, plans, concludes, or decides.

Cues only say where to look: what is taken back is told by values, symbols and the trained
compressor. This module knows sentences as plain text.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Cue(StrEnum):
    """What the words of a step suggest that it does."""

    TAKEBACK = "takeback"
    DOUBT = "doubt"
    DEAD_END = "dead_end"
    RESTART = "restart"
    CHECK = "check"
    PLAN = "plan"
    CONCLUSION = "conclusion"
    CONFIRMED = "confirmed"
    HYPOTHESIS = "hypothesis"
    RESTATED = "restated"
    REASON = "reason"
    RULE = "rule"


_CUES = {
    Cue.TAKEBACK: (
        r"\b(?:wrong|mistake\w*|error|incorrect\w*|not right|isn't right|not correct"
        r"|isn't correct|misread|mis-?calculat\w+|mis-?count\w*|mis-?appl\w+|"
        r"mis-?stated|slipp?(?:ed|up)?|forgot\w*|overlook\w*|scratch that|"
        r"correct(?:ing)? (?:that|this|it|my)|take that back|took .{1,20} wrong|"
        r"shouldn't have|should have (?:been|said|used)|should be|can't be right|"
        r"cannot be right|double[- ]count\w*|over-?count\w*|under-?count\w*|is off|"
        r"was off|off by one|that's not|that isn't|it's not|fix (?:that|this|it)|"
        r"going back|go back|redo|revis\w+|undo|discard\w*|throw (?:that|it) (?:out|"
        r"away)|instead of|not what|contradict\w*|careless|confus\w+|mixed up|"
        r"mix-?up|ignor(?:ed|ing)|neglect\w*|flawed|invalid|bogus)\b"
    ),
    Cue.DOUBT: (
        r"\b(?:wait|hmm+|hold on|hang on|actually|no,|oops|uh|but then|not so fast|"
        r"let me see|strange|suspicious|odd|that seems (?:off|too|wrong)|"
        r"doesn't (?:add|look|seem|feel|match|fit|make sense))\b|^no\b"
    ),
    Cue.DEAD_END: (
        r"\b(?:dead end|doesn't (?:help|lead|work|go|get)|not help\w*|too (?:messy|"
        r"complicated|long|many|much)|getting (?:messy|long|nowhere|complicated)|"
        r"messy|nowhere|abandon\w*|give up|not (?:useful|promising|needed)|"
        r"leave (?:that|it) (?:aside|there)|drop (?:that|this)|put (?:that|"
        r"this) aside|stuck|more trouble)\b"
    ),
    Cue.RESTART: (
        r"\b(?:another (?:way|approach|method)|alternative(?:ly)?|"
        r"different(?:ly)? (?:way|approach|method)|start (?:over|again|fresh)|"
        r"from scratch|try (?:again|a different|another|something)|re-?start|"
        r"again from)\b"
    ),
    Cue.CHECK: (
        r"\b(?:check\w*|verif\w+|confirm\w*|sanity|plug\w*|substitut\w+ back|"
        r"make sure|consistent|cross-?check|test(?:ing)?|double[- ]check)\b"
    ),
    Cue.PLAN: (
        r"\b(?:let me|let's|i'll|i need|we need|i should|i want|need to|have to|"
        r"going to|first|plan|approach|strategy|start by|maybe i|could (?:use|"
        r"try))\b"
    ),
    Cue.CONCLUSION: (
        r"\b(?:so the answer|the answer|therefore|final\w*|hence|in total|altogether"
        r"|conclu\w+|overall|thus)\b|\\boxed"
    ),
    Cue.CONFIRMED: (
        r"\b(?:yes|yeah|good|great|matches|works|agrees|right\b|same as|as before|"
        r"checks out|holds|indeed|nice)\b"
    ),
    Cue.HYPOTHESIS: (
        r"\b(?:maybe|perhaps|might|suppose|assume|assuming|guess|probably|seems|if i"
        r"|i think|could be)\b"
    ),
    Cue.RESTATED: (
        r"\b(?:the (?:problem|question)|asks?|asked|given|we're told|i'm told|"
        r"it says|said|states?)\b"
    ),
    Cue.REASON: (r"\b(?:because|since|as|so|which means|means|then|implies|follows|gives)\b"),
    Cue.RULE: (
        r"\b(?:formula|theorem|identity|rule|law|by the|definition|in general|always"
        r"|every)\b"
    ),
}
_PATTERNS = {cue: re.compile(text, re.IGNORECASE) for cue, text in _CUES.items()}

_PROTECTED = re.compile(
    r"\b(?:not|no|never|none|nor|neither|cannot|without|except|unless|only(?: if|"
    r" when)?|at (?:least|most)|exactly|distinct|different|if and only if|if|provided|"
    r"positive|negative|non-?negative|non-?zero|all|each|every|both|either|any|"
    r"more than|less than|fewer than|no more than|no fewer than|greater than|between|"
    r"strictly|even|odd|integers?|half|twice|double|same|first|last|\w+n['’]t)\b",
    re.IGNORECASE,
)


def cues(text: str) -> frozenset[Cue]:
    """The cues in a sentence."""
    return frozenset(cue for cue, pattern in _PATTERNS.items() if pattern.search(text))


def protected_words(text: str) -> list[tuple[int, int]]:
    """Spans of the words of negation, condition and quantity, without which a sentence would say
    something else.

    >>> text = "Ann can't be first, only if x > 0."
    >>> [text[begin:end] for begin, end in protected_words(text)]
    ["can't", 'first', 'only if']
    """
    return [match.span() for match in _PROTECTED.finditer(text)]
