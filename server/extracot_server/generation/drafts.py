"""Calls that a model writes in an open think block: a draft, or a call whose block it left open.

Such a text is held until it is known what it is. Where the reply ends directly after complete
calls, the model forgot to close its block, and they are calls; where anything follows, they are
reasoning. Knows no caps: what is held has not been counted yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from extracot.reasoning import Part, tag_beginning
from extracot_server.generation.attribution import Fragment
from extracot_server.tool_calls.hermes import OPEN, HermesReader
from extracot_server.tool_calls.tools import CallPart


class DraftedCalls:
    """Fragments of a reply on their way, of which calls in reasoning wait.

    ``tags`` are the ids that are tags of calls; none where their spelling counts.
    """

    def __init__(self, tags: Mapping[int, str]) -> None:
        self._tags = tags
        self._held: list[Fragment] = []
        self._reader: HermesReader | None = None  # while a call is held; only space is, otherwise
        self._arguments: list[str] = []

    def passes(self, text: str) -> bool:
        """Whether reasoning with this text, of a token that is no tag, need not be taken."""
        return not self._held and (bool(self._tags) or "<" not in text)

    def take(self, fragments: Iterable[Fragment]) -> list[Fragment]:
        """Add fragments; those that are decided by now, in order."""
        out: list[Fragment] = []
        for fragment in fragments:
            if fragment.part is Part.REASONING:
                self._take(fragment, out)
            else:
                out += [*self._release(), fragment]
        return out

    def finish(self, fragments: Iterable[Fragment]) -> tuple[list[Fragment], list[Fragment]]:
        """The reply has ended: the last of the reasoning, and calls that are its answer."""
        out = self.take(fragments)
        if self._reader is None or not self._reader.at_rest or not self._sound():
            return out + self._release(), []
        held, self._held, self._reader = self._held, [], None
        calls: list[Fragment] = []
        for fragment in held:
            between = fragment.text.isspace() and not any(f.part is Part.ANSWER for f in calls)
            part = Part.MARKUP if between else Part.ANSWER
            calls.append(fragment._replace(part=part))
        return out, calls

    def _take(self, fragment: Fragment, out: list[Fragment]) -> None:
        if self._reader is None:
            begins = self._beginning(fragment)
            if begins is None:
                if fragment.text.isspace():
                    self._held.append(fragment)
                else:
                    out += [*self._release(), fragment]
                return
            head, rest = fragment.text[:begins], fragment.text[begins:]
            if head.strip():
                out += [*self._release(), fragment._replace(text=head)]
                fragment = Fragment(Part.REASONING, rest, ())
            self._reader = HermesReader(marked=bool(self._tags))
            self._held.append(fragment)
            if not self._read(fragment, rest, OPEN):
                out += self._release()
            return
        tag = self._tag_of(fragment)
        if self._read(fragment, fragment.text, tag):
            self._held.append(fragment)
            return
        out += self._release()
        self._take(fragment, out)  # it may begin another one

    def _read(self, fragment: Fragment, text: str, tag: str | None) -> bool:
        """Whether all that is held may still be calls and nothing else, with this text."""
        reader = self._reader
        assert reader is not None
        found: list[str | CallPart]
        if tag is None or not self._tags:
            found = reader.feed(text, ())
        else:
            before, _, after = text.partition(tag)
            found = [*reader.feed(before, ()), *reader.mark(tag), *reader.feed(after, ())]
        for part in found:
            if isinstance(part, str):
                return False
            if part.name is not None:
                self._arguments.append("")
            self._arguments[-1] += part.arguments
        return not reader.broken

    def _beginning(self, fragment: Fragment) -> int | None:
        """Where in the fragment a call begins, or may."""
        text = fragment.text
        if self._tags:
            at = text.find(OPEN) if self._tag_of(fragment) == OPEN else -1
        else:
            at = text.find(OPEN)
            if at < 0 and (begun := tag_beginning(text, 0, OPEN)):
                at = len(text) - begun
        return at if at >= 0 else None

    def _tag_of(self, fragment: Fragment) -> str | None:
        return self._tags.get(fragment.tokens[-1].token_id) if fragment.tokens else None

    def _release(self) -> list[Fragment]:
        """What was held is reasoning."""
        held, self._held, self._reader = self._held, [], None
        self._arguments = []
        return held

    def _sound(self) -> bool:
        """A complete call has an object of arguments."""
        try:
            return all(isinstance(json.loads(text), dict) for text in self._arguments)
        except (ValueError, RecursionError):
            return False
