"""How the families write their think tags, as text: which of them a text of anybody's holds.

Of a model that is served, :class:`extracot.reasoning.ThinkTags` has the one pair.
"""

from __future__ import annotations

import re

# Where each family's reasoning begins and ends.
PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<mm:think>", "</mm:think>"),
    ("<seed:think>", "</seed:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel>thought", "<channel|>"),
)
_ANY = re.compile("|".join(re.escape(tag) for pair in PAIRS for tag in pair))
# Whatever is written like one, such as <Think> or <my:think>.
_LIKE_ONE = re.compile(
    rf"{_ANY.pattern}|</?(?:\w+:)?think(?:ing)?(?::\w+)?>|<\|?channel\|?>", re.IGNORECASE
)


def has_tags(text: str) -> bool:
    """Whether any known tag is in the text."""
    return _ANY.search(text) is not None


def looks_tagged(text: str) -> bool:
    """The same in any spelling: capitals or not, and names that no family has yet.

    >>> has_tags("<Think>"), looks_tagged("<Think>"), looks_tagged("<my:think>")
    (False, True, True)
    """
    return _LIKE_ONE.search(text) is not None
