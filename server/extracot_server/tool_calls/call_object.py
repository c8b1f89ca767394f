"""One call written as a JSON object, read while a model writes it, however the text is cut.

The text that makes up the arguments is passed on as it is, never re-written; only what is not an
object but stands for one becomes it: JSON text in a string, nothing at all. Knows no tags.
"""

from __future__ import annotations

import json
import re

from extracot_server.tool_calls.tools import CallPart, new_call_id

_ARGUMENTS = ('"arguments"', '"parameters"')
# Characters that change nothing of where one is, so that a run of them is taken at once.
_IN_STRING = re.compile(r'[^"\\]+')
_IN_VALUE = re.compile(r'[^"{}\[\]]+')


class CallObject:
    """One ``{"name": …, "arguments": …}`` object as parts of call ``number``.

    Arguments that come before the name wait for it. ``parameters`` is another word for them; of
    several the first counts.
    """

    def __init__(self, number: int) -> None:
        self.named = self.ended = self.whole = False
        """Its name has been given out; the object is over, or is none; it has ended as one does."""
        self._number = number
        self._name: str | None = None
        self._depth = 0
        self._quoted = self._escaped = False
        self._key: str | None = None  # with its quotes; None while a key is expected or read
        self._word: list[str] = []  # what has come of the present key or value
        self._arguments = _Arguments()
        self._held: list[str] = []
        self._space = ""
        self._taken = self._given = False

    @property
    def quoted(self) -> bool:
        """Whether the next character is part of a string."""
        return self._quoted

    def feed(self, text: str) -> tuple[list[CallPart], int]:
        """What has become certain, and how many characters belong to the object."""
        at = 0
        while at < len(text) and not self.ended:
            if run := self._run(text, at):
                self._add(run)
                at += len(run)
            else:
                self._step(text[at])
                at += 1
        return self._take(), at

    def close(self) -> list[CallPart]:
        """It ends here, whole or not: what is left of the arguments, ``{}`` where there are none.

        An object that was cut off before its first argument has none either.
        """
        if self._depth == 1 and not self.ended:
            self._end_value()
        if self._name is not None and not self._given and not self._held and not self._taken:
            self._held.append("{}")
        return self._take()

    def finish(self) -> list[CallPart]:
        """The text is over: what is left, of an object that is not whole as far as it got."""
        return self.close() if self.whole else self._take()

    def _take(self) -> list[CallPart]:
        if self._name is None:
            return []
        out = [] if self.named else [CallPart(self._number, id=new_call_id(), name=self._name)]
        self.named = True
        if text := "".join(self._held):
            self._given = True
            out.append(CallPart(self._number, text))
        self._held.clear()
        return out

    def _run(self, text: str, at: int) -> str:
        """What is part of a string, or of a value inside of another one, whatever it is."""
        if self._quoted:
            found = None if self._escaped else _IN_STRING.match(text, at)
        else:
            inside = self._key is not None and self._depth > 1
            found = _IN_VALUE.match(text, at) if inside else None
        return found[0] if found is not None else ""

    def _step(self, character: str) -> None:
        if self._quoted:
            self._quoted = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif self._depth == 0:
            self.ended = not (character == "{" or character.isspace())
            self._depth += character == "{"
            return
        elif self._depth == 1 and character in ",}":
            self._end_value()
            self._depth -= character == "}"
            self.ended = self.whole = self._depth == 0
            return
        elif self._key is None and self._word and character == ":":
            self._key, self._word = "".join(self._word), []
            return
        elif self._key is None:
            self._quoted = character == '"' and not self._word
            self.ended = not (self._quoted or character.isspace())
        else:
            self._quoted = character == '"'
            self._depth += (character in "{[") - (character in "}]")
        self._add(character)

    @property
    def _in_arguments(self) -> bool:
        return self._key in _ARGUMENTS and not self._taken

    def _add(self, text: str) -> None:
        """A part of a key or value: kept, and passed on if it is one of the arguments."""
        space = self._depth == 1 and not self._quoted and text.isspace()
        if space and not (self._word and self._key):
            return
        self._word.append(text)
        if self._in_arguments and space:
            self._space += text  # only a value that goes on keeps it
        elif self._in_arguments:
            self._held.append(self._arguments.feed(self._space + text))
            self._space = ""

    def _end_value(self) -> None:
        if self._key == '"name"' and self._word and self._name is None:
            try:
                name = json.loads("".join(self._word))
            except ValueError:
                name = None
            self._name = name if isinstance(name, str) and name else None
        elif self._in_arguments and self._word:
            self._held.append(self._arguments.finish())
            self._taken = True
        self._key, self._word, self._space = None, [], ""


class _Arguments:
    """The value of the arguments as it is to be passed on.

    A string that holds an object is that object (some models encode twice); ``null`` and an empty
    string are ``{}``.
    """

    def __init__(self) -> None:
        self._kept = ""  # while it is not known what the value is
        self._inner: _InnerText | None = None
        self._known = False

    def feed(self, text: str) -> str:
        """More of the value, never empty; what can be passed on by now."""
        if self._known:
            return text if self._inner is None else self._inner.feed(text)
        self._kept += text
        if self._kept[0] == '"':
            return self._string(text)
        self._known = not "null".startswith(self._kept)
        return self._kept if self._known else ""

    def finish(self) -> str:
        """The value is over."""
        if self._known:
            return ""
        return "{}" if self._kept == "null" or not json_text(self._kept).strip() else self._kept

    def _string(self, text: str) -> str:
        if self._inner is None:
            self._inner, text = _InnerText(), text[1:]
        begun = self._inner.feed(text).lstrip()
        self._known = bool(begun)
        if begun.startswith("{"):
            return begun
        if begun:
            self._inner = None  # a string that is something else stays one
        return self._kept if begun else ""


class _InnerText:
    """The text of a JSON string, without its first quote, as it comes."""

    def __init__(self) -> None:
        self._escape = ""
        self._over = False

    def feed(self, text: str) -> str:
        """More of the string as it is written; what it says."""
        return "".join(map(self._step, text))

    def _step(self, character: str) -> str:
        if self._over:
            return ""
        if not self._escape:
            self._over = character == '"'
            if character == "\\":
                self._escape = character
            return "" if self._over or self._escape else character
        if len(self._escape) == 6 and character != "\\":  # half a pair, and no other half
            found, self._escape = json_text(f'"{self._escape}"'), ""
            return found + self._step(character)
        self._escape += character
        if len(self._escape) < _length_of(self._escape):
            return ""
        found, self._escape = json_text(f'"{self._escape}"'), ""
        return found


def _length_of(escape: str) -> int:
    """How long an escape is going to be: half of a pair of surrogates needs the other half."""
    if not escape.startswith("\\u"):
        return 2
    return 12 if len(escape) >= 6 and escape[2:4].lower() in ("d8", "d9", "da", "db") else 6


def json_text(literal: str) -> str:
    """What a JSON string says; the characters themselves where it is none."""
    try:
        found = json.loads(literal)
    except ValueError:
        return literal.strip('"')
    text = found if isinstance(found, str) else literal
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
