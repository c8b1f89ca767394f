"""Splitting a reply into reasoning and answer, whole or as a stream, without losing a character.

Knows think tags and white space, and nothing of tokens: because the pieces put together are
exactly the text that was fed, a caller can attribute tokens to parts by character offset. Where a
tag is one token, the caller says so by :meth:`ReasoningSplitter.mark`, and its spelling is text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from extracot.errors import ControlTokenError


@dataclass(frozen=True, slots=True)
class ThinkTags:
    """The pair of tags around a reasoning block, and how they are written.

    ``opens`` opens a block, ``closes`` closes one, and ``skips`` begins a reply without any; the
    defaults put line breaks around the tags. Where ``skips`` does not hold the tags it is markup
    itself, for a model that begins with it.

    Raises :class:`ControlTokenError` if a tag is empty or starts or ends in white space, if both
    are the same, or if what opens or closes does not hold its tag.
    """

    start: str = "<think>"
    end: str = "</think>"
    opens: str = ""
    closes: str = ""
    skips: str = ""

    def __post_init__(self) -> None:
        for tag in (self.start, self.end):
            if not tag or tag != tag.strip():
                raise ControlTokenError(f"think tag {tag!r} is empty or has white space around it")
        if self.start == self.end:
            raise ControlTokenError(f"both think tags are {self.start!r}: they have to differ")
        forms = {
            "opens": self.opens or f"{self.start}\n",
            "closes": self.closes or f"\n{self.end}\n\n",
            "skips": self.skips or f"{self.start}\n\n{self.end}\n\n",
        }
        for name, form in forms.items():
            object.__setattr__(self, name, form)
        if not self.opens.strip().startswith(self.start) or self.end in self.opens.replace(
            self.start, ""
        ):
            raise ControlTokenError(f"{self.opens!r} does not open a block of {self.start!r}")
        if self.end not in self.closes or self.start in self.closes.replace(self.end, ""):
            raise ControlTokenError(f"{self.closes!r} does not close a block with {self.end!r}")
        if not self.skips.strip():
            raise ControlTokenError("what skips the block is empty")

    @property
    def begins_answer(self) -> str | None:
        """What a model may begin its answer with instead of a block, if that is none of the tags'
        business."""
        form = self.skips.strip()
        return None if form.startswith((self.start, self.end)) else form


class Part(StrEnum):
    """What a piece of a reply is. MARKUP is tags and the white space at them; never shown."""

    REASONING = "reasoning"
    ANSWER = "answer"
    MARKUP = "markup"


class Piece(NamedTuple):
    """A stretch of the reply; ``text`` is never empty."""

    part: Part
    text: str


@dataclass(frozen=True, slots=True)
class SplitText:
    """A whole reply, split. ``closed``: a reasoning block was closed."""

    reasoning: str
    answer: str
    closed: bool


_SPACE = re.compile(r"\s+")  # the same characters as str.strip()


class _Mode(StrEnum):
    """Where the splitter stands; more exact than the public ``state``."""

    BEFORE = "before"  # nothing but white space yet; a start tag opens the block
    BEFORE_ANSWER = "before_answer"  # the same, where no reasoning is expected
    PROMPT_OPENED = "prompt_opened"  # the prompt opened the block; the model may repeat the tag
    JUST_OPENED = "just_opened"  # directly after the start tag
    REASONING = "reasoning"
    JUST_CLOSED = "just_closed"  # directly after an end tag; the model may repeat it
    ANSWER = "answer"


_INSIDE = (_Mode.REASONING, _Mode.JUST_OPENED, _Mode.PROMPT_OPENED)


class ReasoningSplitter:
    """Splits a reply as it arrives, in linear time; the chunking never changes the outcome.

    - White space, then the start tag, opens the block; any other beginning is all answer.
    - The first end tag in the block closes it; start tags inside are reasoning text.
    - White space directly after the start tag and directly around the end tag is MARKUP, and
      so are end tags repeated directly after the first one.
    - After that everything is answer, tags included. Look-alikes are text everywhere.
    - With ``in_reasoning`` the prompt opened the block: a start tag that the model repeats at
      once is MARKUP.
    - What begins an answer in place of a block (:attr:`ThinkTags.begins_answer`) is MARKUP there.
    - With ``expect_reasoning=False`` everything is answer, except end tags at the very start.

    Tags in ``marked`` come by :meth:`mark` alone, and their spelling is text wherever it stands:

    - A marked start tag opens a block, also one after an answer has begun, and is MARKUP inside a
      block.
    - A marked end tag that closes nothing is MARKUP, unless there never was a block: then the
      text before it may be reasoning that nothing announced, and the tag is shown.
    - With ``expect_reasoning=False`` marked tags are MARKUP, and nothing is opened.

    Only what may still turn into markup is held back: the beginning of a tag, and white space
    that a tag may follow.
    """

    def __init__(
        self,
        tags: ThinkTags | None = None,
        *,
        in_reasoning: bool,
        expect_reasoning: bool = True,
        marked: Collection[str] = (),
    ) -> None:
        self._tags = tags if tags is not None else ThinkTags()
        self._expects = expect_reasoning or in_reasoning
        # The spellings that are tags.
        self._start = None if self._tags.start in marked else self._tags.start
        self._end = None if self._tags.end in marked else self._tags.end
        self._skip = self._tags.begins_answer
        if in_reasoning:
            self._mode = _Mode.PROMPT_OPENED
        else:
            self._mode = _Mode.BEFORE if expect_reasoning else _Mode.BEFORE_ANSWER
        self._hint = None if self._end is None else self._end[0]
        self.opened = in_reasoning
        """A reasoning block was opened, by the prompt or by the reply."""
        self.closed = False
        """A reasoning block was closed by an end tag."""
        # Held back, in text order: white space (a list, so that a long run of it fed by the
        # character stays linear), then the possible beginning of a tag (shorter than the tag).
        self._space: list[str] = []
        self._partial = ""
        self._runs: list[tuple[Part, list[str]]] = []

    @property
    def state(self) -> Literal["before", "reasoning", "answer"]:
        """What the next character would belong to, as far as is known."""
        if self._mode in _INSIDE:
            return "reasoning"
        return "before" if self._mode is _Mode.BEFORE else "answer"

    def certain(self, text: str) -> Part | None:
        """The part all of ``text`` belongs to, if that is sure and feeding it would hold nothing.

        Changes nothing: such a text need not be fed at all, and most of a reply is like that.
        """
        if self._mode is _Mode.ANSWER:
            return Part.ANSWER
        if self._mode is not _Mode.REASONING or self._partial or self._space:
            return None
        if self._hint is not None and self._hint in text:  # `_plain` without a call: a token's way
            return None
        return Part.REASONING if text and not text[-1].isspace() else None

    def _plain(self, text: str) -> bool:
        """Whether no end tag can begin in a text of reasoning."""
        return self._hint is None or self._hint not in text

    def feed(self, text: str) -> list[Piece]:
        """Take the next stretch of the reply; returns what is decided by now, possibly nothing."""
        if self._mode is _Mode.ANSWER:
            return [Piece(Part.ANSWER, text)] if text else []
        if self._mode is _Mode.REASONING and not self._partial and self._plain(text):
            return self._plain_reasoning(text)
        text = self._partial + text
        self._partial = ""
        at = 0
        while at < len(text):
            at = self._step(text, at)
        return self._take()

    def mark(self, tag: str) -> list[Piece]:
        """Take one of the ``marked`` tags; its own text is part of what is returned."""
        self._drop_beginning()
        part = Part.MARKUP
        inside = self._mode in _INSIDE
        if tag == self._tags.start and self._mode is _Mode.REASONING:
            self._release_space(Part.REASONING)
        elif tag == self._tags.start and self._expects:
            self._mode, self.opened = _Mode.JUST_OPENED, True
        elif tag == self._tags.end and inside:
            self._mode, self.closed = _Mode.JUST_CLOSED, True
        elif tag == self._tags.end and self._expects and not self.opened:
            part, self._mode = Part.ANSWER, _Mode.ANSWER
        elif self._mode is _Mode.BEFORE_ANSWER:
            self._mode = _Mode.JUST_CLOSED
        self._release_space(part)
        self._emit(part, tag)
        return self._take()

    def leave(self) -> list[Piece]:
        """The block has ended without a tag: what follows is answer."""
        self._drop_beginning()
        self._release_space(Part.MARKUP)
        self._mode, self.closed = _Mode.ANSWER, True
        return self._take()

    def _drop_beginning(self) -> None:
        """What might have become a spelled tag is text, since another tag follows it."""
        if not self._partial:
            return
        inside = self._mode in _INSIDE
        part = Part.REASONING if inside else Part.ANSWER
        self._release_space(part)
        self._emit(part, self._partial)
        self._partial = ""
        self._mode = _Mode.REASONING if inside else _Mode.ANSWER

    def finish(self) -> list[Piece]:
        """The reply is over: returns what was held back. Calling it again returns nothing."""
        held = Part.REASONING if self.state == "reasoning" else Part.ANSWER
        self._release_space(held)
        self._emit(held, self._partial)
        self._partial = ""
        return self._take()

    def _plain_reasoning(self, text: str) -> list[Piece]:
        """Most of what is ever fed: no tag can begin here, only trailing space is held back."""
        words = text.rstrip()
        if not words:
            if text:
                self._space.append(text)
            return []
        shown = "".join([*self._space, words]) if self._space else words
        self._space = [text[len(words) :]] if len(words) < len(text) else []
        return [Piece(Part.REASONING, shown)]

    def _step(self, text: str, at: int) -> int:
        """Move on or change the mode for good, without copying what lies ahead."""
        if self._mode is _Mode.REASONING:
            return self._reason(text, at)
        if self._mode is _Mode.ANSWER:
            self._emit(Part.ANSWER, text[at:])
            return len(text)
        return self._expect_tag(text, at)

    def _reason(self, text: str, at: int) -> int:
        """Inside the block: look for the end tag; returns where to go on."""
        end = self._end
        if end is None:
            found, stop = -1, len(text)
        else:
            found = text.find(end, at)
            stop = found if found >= 0 else len(text) - tag_beginning(text, at, end)
        body = text[at:stop]
        words = body.rstrip()
        if words:
            self._release_space(Part.REASONING)
            self._emit(Part.REASONING, words)
        if len(words) < len(body):
            self._space.append(body[len(words) :])
        if end is None or found < 0:
            self._partial = text[stop:]
            return len(text)
        self._release_space(Part.MARKUP)
        self._emit(Part.MARKUP, end)
        self._mode = _Mode.JUST_CLOSED
        self.closed = True
        return found + len(end)

    def _expect_tag(self, text: str, at: int) -> int:
        """Where white space and one certain tag are special; returns where to go on."""
        mode = self._mode
        space = _SPACE.match(text, at)
        if space is not None:
            self._space.append(space[0])
            at = space.end()
        if mode in (_Mode.PROMPT_OPENED, _Mode.JUST_OPENED, _Mode.JUST_CLOSED):
            self._release_space(Part.MARKUP)  # markup whatever follows, so nothing to wait for
        if at == len(text):
            return at
        if mode is _Mode.JUST_OPENED:
            self._mode = _Mode.REASONING
            return at
        opening = mode in (_Mode.BEFORE, _Mode.PROMPT_OPENED)
        tag = self._start if opening else self._end
        if tag is not None and text.startswith(tag, at):
            self._release_space(Part.MARKUP)
            self._emit(Part.MARKUP, tag)
            self._mode = _Mode.JUST_OPENED if opening else _Mode.JUST_CLOSED
            self.opened = self.opened or opening
            return at + len(tag)
        skip = self._skip if mode in (_Mode.BEFORE, _Mode.BEFORE_ANSWER) else None
        if skip is not None and text.startswith(skip, at):
            self._release_space(Part.MARKUP)
            self._emit(Part.MARKUP, skip)
            self._mode = _Mode.JUST_CLOSED
            return at + len(skip)
        if any(
            wanted is not None and len(text) - at < len(wanted) and wanted.startswith(text[at:])
            for wanted in (tag, skip)
        ):
            self._partial = text[at:]
            return len(text)
        self._release_space(Part.ANSWER)  # held in the BEFORE modes only
        self._mode = _Mode.REASONING if mode is _Mode.PROMPT_OPENED else _Mode.ANSWER
        return at

    def _release_space(self, part: Part) -> None:
        for space in self._space:
            self._emit(part, space)
        self._space.clear()

    def _emit(self, part: Part, text: str) -> None:
        if not text:
            return
        if self._runs and self._runs[-1][0] is part:
            self._runs[-1][1].append(text)
        else:
            self._runs.append((part, [text]))

    def _take(self) -> list[Piece]:
        pieces = [Piece(part, "".join(texts)) for part, texts in self._runs]
        self._runs.clear()
        return pieces


def tag_beginning(text: str, at: int, tag: str) -> int:
    """Length of the longest end of ``text[at:]`` that is a beginning of ``tag``, not all of it."""
    start = text.find(tag[0], max(at, len(text) - len(tag) + 1))
    while start >= 0:
        if tag.startswith(text[start:]):
            return len(text) - start
        start = text.find(tag[0], start + 1)
    return 0


def split_reasoning(
    text: str,
    tags: ThinkTags | None = None,
    *,
    in_reasoning: bool = False,
    expect_reasoning: bool = True,
) -> SplitText:
    """Split a whole reply by the rules of :class:`ReasoningSplitter`.

    >>> split_reasoning("<think>\\n1+1=2\\n</think>\\n2")
    SplitText(reasoning='1+1=2', answer='2', closed=True)
    """
    splitter = ReasoningSplitter(tags, in_reasoning=in_reasoning, expect_reasoning=expect_reasoning)
    pieces = splitter.feed(text) + splitter.finish()
    return SplitText(
        reasoning="".join(piece.text for piece in pieces if piece.part is Part.REASONING),
        answer="".join(piece.text for piece in pieces if piece.part is Part.ANSWER),
        closed=splitter.closed,
    )
