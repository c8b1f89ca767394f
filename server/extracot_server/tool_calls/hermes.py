"""Calls in the format of the Hermes and Qwen models: JSON between ``<tool_call>`` tags.

Where a model has its tags as single ids, and its prompt shows them to it, only the ids are tags and
their spelling is text: a caller tells them by :meth:`HermesReader.mark`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from extracot.prompt import Tokenizer
from extracot.reasoning import tag_beginning
from extracot_server.tool_calls.call_object import CallObject
from extracot_server.tool_calls.tools import CallPart, ToolUse

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_TAG = re.compile(f"({OPEN}|{CLOSE})")
# What may stand beside the objects of a tag: a list's marks, and a brace too many after one.
_BETWEEN, _AFTER = " \t\r\n,[", " \t\r\n,[]}"


class _Where(StrEnum):
    TEXT = "text"  # outside of tags
    CALLS = "calls"  # between tags, where objects are expected
    TAIL = "tail"  # between tags, after a call: text
    BROKEN = "broken"  # between tags, after a call that is no whole object: nothing of it is shown


class HermesReader:
    """``<tool_call>`` … ``</tool_call>`` around calls; any other text is the answer's.

    A tag holds one object, several, or a list of them. White space at a call is dropped. What
    stands between tags and is no call is text; so is what follows a call there. A closing tag that
    is missing ends with the text or the next call. With ``marked`` tags come by :meth:`mark`.
    A call of a function that the request has not is a call: whoever runs it answers that.
    """

    def __init__(self, *, parallel: bool = True, marked: bool = False) -> None:
        self._parallel = parallel
        self._marked = marked
        self._where = _Where.TEXT
        self._call: CallObject | None = None
        self._count = self._made = 0  # calls in all, and of this tag
        self._tag = ""  # the beginning of a tag, perhaps
        self._raw = ""
        self._space = ""

    @property
    def at_rest(self) -> bool:
        """Nothing but whole calls was read so far, and the last one's tag is closed."""
        return self._where is _Where.TEXT and not self._tag and self._count > 0

    @property
    def broken(self) -> bool:
        """The present call is no whole object."""
        return self._where is _Where.BROKEN

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        out: list[str | CallPart] = []
        if not self._tag and "<" not in text:  # nearly all text
            self._read(text, out)
            return out
        for piece in self._pieces(text):
            if _TAG.fullmatch(piece) and not self._marked:
                self._read_tag(piece, out)
            else:
                self._read(piece, out)
        return out

    def mark(self, tag: str) -> list[str | CallPart]:
        """A tag that came as an id of its own."""
        out: list[str | CallPart] = []
        self._read_tag(tag, out)
        return out

    def finish(self) -> list[str | CallPart]:
        """What was held back: the beginning of a tag that is none, or a call that was cut off."""
        out: list[str | CallPart] = []
        rest, self._tag = self._tag, ""
        if rest:
            self._read(rest, out)
        if self._where is _Where.CALLS:
            self._end_call(out)
            if self._raw:
                self._show(self._raw, out)
        if not self._count and self._space:
            out.append(self._space)  # no call was made: this is the answer as it is
        self._where, self._raw, self._space = _Where.TEXT, "", ""
        return out

    def _pieces(self, text: str) -> Iterator[str]:
        """Stretches of text and whole tags; the beginning of a tag waits for the rest."""
        if self._marked:
            yield from (text,) if text else ()
            return
        *whole, last = _TAG.split(self._tag + text)
        begun = max(tag_beginning(last, 0, tag) for tag in (OPEN, CLOSE))
        self._tag = last[len(last) - begun :]
        yield from filter(None, (*whole, last[: len(last) - begun]))

    def _read(self, text: str, out: list[str | CallPart]) -> None:
        """Text, of which no part is a tag."""
        while text:
            if self._where in (_Where.TEXT, _Where.TAIL):
                self._show(text, out)
                return
            if self._where is _Where.BROKEN:
                return
            if self._call is None:
                text = self._begin_call(text)
                continue
            parts, taken = self._call.feed(text)
            out += parts if self._parallel or not self._count else []
            if not self._call.named:  # it may turn out to be none
                self._raw += text[:taken]
            text = text[taken:]
            if self._call.ended:
                self._end_call(out)

    def _begin_call(self, text: str) -> str:
        """The rest of the text, from where an object begins or it is clear that none does."""
        rest = text.lstrip(_AFTER if self._made else _BETWEEN)
        between = text[: len(text) - len(rest)]
        if not self._made:
            self._raw += between
        elif between.isspace():
            self._space += between  # of text that follows, perhaps
        elif between:
            self._space = between[len(between.rstrip()) :]
        if rest.startswith("{"):
            if self._made:
                self._space = ""
            self._call = CallObject(self._count)
        elif rest:
            self._where = _Where.TAIL if self._made else _Where.TEXT
            rest, self._raw = self._raw + rest, ""
        return rest

    def _read_tag(self, tag: str, out: list[str | CallPart]) -> None:
        call = self._call
        if call is not None and call.quoted:
            self._read(tag, out)  # a string may speak of tags
            return
        if self._where is _Where.CALLS:
            if call is not None:
                parts = call.close()
                out += parts if self._parallel or not self._count else []
                self._end_call(out)
            if self._raw:
                self._show(self._raw + (tag if tag == CLOSE else ""), out)
            else:
                self._space = ""
        elif self._where is _Where.TEXT and tag == CLOSE:
            self._show(tag, out)
        self._where, self._raw, self._made = _Where.TEXT, "", 0
        if tag == OPEN:
            self._where, self._raw, self._space = _Where.CALLS, self._space + OPEN, ""

    def _end_call(self, out: list[str | CallPart]) -> None:
        """The object is over; ``_raw`` keeps what turned out to be no call."""
        call, self._call = self._call, None
        if call is None:
            return
        out += call.finish() if self._parallel or not self._count else []
        if call.named:
            self._count += 1
            self._made += 1
            self._raw = ""
            if not call.whole:
                self._where = _Where.BROKEN
        elif call.ended:
            self._where = _Where.TAIL if self._made else _Where.TEXT
            self._show(self._raw, out)
            self._raw = ""

    def _show(self, text: str, out: list[str | CallPart]) -> None:
        """Answer text; white space waits for text that follows it."""
        whole = self._space + text
        words = whole.rstrip()
        self._space = whole[len(words) :]
        if words:
            out.append(words)


class HermesFormat:
    """Makes readers for one tokenizer, and knows the ids of its tags."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_vocab()
        both = all(tag in added for tag in (OPEN, CLOSE))
        self._ids = {added[tag]: tag for tag in (OPEN, CLOSE)} if both else {}

    def tag_ids(self, prompt_ids: Sequence[int]) -> Mapping[int, str]:
        """The ids that are tags in the reply to this prompt; none where their spelling counts.

        A model whose prompt shows it the ids writes the ids. No message can put one into a prompt.
        """
        opening = next(iter(self._ids), None)
        return self._ids if opening in prompt_ids else {}

    def __call__(self, tools: ToolUse, *, marked: bool = False) -> HermesReader:
        """A reader of one answer."""
        return HermesReader(parallel=tools.parallel, marked=marked)
