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
    Cue.TAKEBACK: r"\b(?:wrong|mistake\w*|error|incorrect\w*|not right|isn't right|not correct"
    r"|isn't correct|misread|mis-?calculat\w+|mis-?count\w*|mis-?appl\w+|mis-?stated|slipp?(?:ed|up)?"
    r"|forgot\w*|overlook\w*|scratch that|correct(?:ing)? (?:that|this|it|my)|take that back"
    r"|took .{1,20} wrong|shouldn't have|should have (?:been|said|used)|should be|can't be right"
    r"|cannot be right|double[- ]count\w*|over-?count\w*|under-?count\w*|is off|was off|off by one"
    r"|that's not|that isn't|it's not|fix (?:that|this|it)|going back|go back|redo|revis\w+"
    r"|undo|discard\w*|throw (?:that|it) (?:out|away)|instead of|not what|contradict\w*"
    r"|careless|confus\w+|mixed up|mix-?up|ignor(?:ed|ing)|neglect\w*|flawed|invalid|bogus)\b",
    Cue.DOUBT: r"\b(?:wait|hmm+|hold on|hang on|actually|no,|oops|uh|but then|not so fast|let me see"
    r"|strange|suspicious|odd|that seems (?:off|too|wrong)|doesn't (?:add|look|seem|feel|match|fit"
    r"|make sense))\b|^no\b",
    Cue.DEAD_END: r"\b(?:dead end|doesn't (?:help|lead|work|go|get)|not help\w*|too (?:messy"
    r"|complicated|long|many|much)|getting (?:messy|long|nowhere|complicated)|messy|nowhere|abandon\w*"
    r"|give up|not (?:useful|promising|needed)|leave (?:that|it) (?:aside|there)|drop (?:that|this)"
    r"|put (?:that|this) aside|stuck|more trouble)\b",
    Cue.RESTART: r"\b(?:another (?:way|approach|method)|alternative(?:ly)?|different(?:ly)? (?:way"
    r"|approach|method)|start (?:over|again|fresh)|from scratch|try (?:again|a different|another"
    r"|something)|re-?start|again from)\b",
    Cue.CHECK: r"\b(?:check\w*|verif\w+|confirm\w*|sanity|plug\w*|substitut\w+ back|make sure"
    r"|consistent|cross-?check|test(?:ing)?|double[- ]check)\b",
    Cue.PLAN: r"\b(?:let me|let's|i'll|i need|we need|i should|i want|need to|have to|going to|first"
    r"|plan|approach|strategy|start by|maybe i|could (?:use|try))\b",
    Cue.CONCLUSION: r"\b(?:so the answer|the answer|therefore|final\w*|hence|in total|altogether"
    r"|conclu\w+|overall|thus)\b|\\boxed",
    Cue.CONFIRMED: r"\b(?:yes|yeah|good|great|matches|works|agrees|right\b|same as|as before"
    r"|checks out|holds|indeed|nice)\b",
    Cue.HYPOTHESIS: r"\b(?:maybe|perhaps|might|suppose|assume|assuming|guess|probably|seems|if i"
    r"|i think|could be)\b",
    Cue.RESTATED: r"\b(?:the (?:problem|question)|asks?|asked|given|we're told|i'm told|it says|said"
    r"|states?)\b",
    Cue.REASON: r"\b(?:because|since|as|so|which means|means|then|implies|follows|gives)\b",
    Cue.RULE: r"\b(?:formula|theorem|identity|rule|law|by the|definition|in general|always|every)\b",
}  # fmt: skip
_PATTERNS = {cue: re.compile(text, re.IGNORECASE) for cue, text in _CUES.items()}

_PROTECTED = re.compile(
    r"\b(?:not|no|never|none|nor|neither|cannot|without|except|unless|only(?: if| when)?|at (?:least"
    r"|most)|exactly|distinct|different|if and only if|if|provided|positive|negative|non-?negative"
    r"|non-?zero|all|each|every|both|either|any|more than|less than|fewer than|no more than"
    r"|no fewer than|greater than|between|strictly|even|odd|integers?|half|twice|double|same|first"
    r"|last|\w+n['’]t)\b",
    re.IGNORECASE,
)


def cues(text: str) -> frozenset[Cue]:
    """The cues in a sentence."""
    return frozenset(cue for cue, pattern in _PATTERNS.items() if pattern.search(text))


def protected_words(text: str) -> list[tuple[int, int]]:
    """Spans of the words of negation, condition and quantity, without which a sentence would say
    something else.

    >>> [("Ann can't be first, only if x > 0."[a:b]) for a, b in protected_words("Ann can't be first, only if x > 0.")]
    ["can't", 'first', 'only if']
    """
    return [match.span() for match in _PROTECTED.finditer(text)]
