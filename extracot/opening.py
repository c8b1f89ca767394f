"""The end of a generation prompt: what a template writes there of reasoning, by its think tags."""

from __future__ import annotations

import re
from typing import NamedTuple

from extracot.reasoning import ThinkTags
from extracot.template import Mixed


class Opening(NamedTuple):
    """The last fixed text of a prompt: before what it says of reasoning, and that.

    ``opened``: it ends within a think block; ``closed``: it ends behind one.
    """

    base: str
    block: str
    opened: bool

    @property
    def closed(self) -> bool:
        """A block that has been closed, or closed without having been opened."""
        return bool(self.block) and not self.opened


def split_opening(last: Mixed | int, tags: ThinkTags) -> tuple[Mixed, Opening]:
    """The last part of a layout: what is before its last fixed text, and that."""
    *before, end = last if isinstance(last, tuple) else ("",)
    start, stop = re.escape(tags.start), re.escape(tags.end)
    found = re.search(rf"(?:{start}\s*(?:{stop}\s*)?|{stop}\s*)\Z", str(end))
    if found is None:
        return tuple(before), Opening(str(end), "", False)
    base = str(end)[: found.start()]
    return tuple(before), Opening(base, found[0], tags.end not in found[0])
