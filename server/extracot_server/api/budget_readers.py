"""How a value of another vendor's budget is read: a switch, a number of tokens, an effort, …

Each reader turns a JSON value into what it says (:class:`Say`), or raises an error that names the
value's own field and ours. Knows no word in particular.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from extracot_server.budget.values import LONGEST_CLOSING, shown
from extracot_server.errors import BudgetError, InvalidRequestError

_BOUNDING = "budget budgets token tokens max min limit effort level ratio enable enabled disabled"


@dataclass(frozen=True, slots=True)
class Say:
    """What one field says of the reasoning. ``None``: nothing.

    ``thinks``: whether there is any; ``cap``: at most so many tokens; ``effort``: a word of the
    server's map; ``shown``: whether the reply has it; ``separate``: whether it stands apart from
    the answer; ``closing``: what ends it where it is cut off; ``variable``: a variable of the chat
    template, and its value.
    """

    field: str
    thinks: bool | None = None
    cap: int | None = None
    effort: str | None = None
    shown: bool | None = None
    separate: bool | None = None
    closing: str | None = None
    variable: tuple[str, Any] | None = None

    @property
    def budgets(self) -> bool:
        """Whether it says anything of how much reasoning there is, or how it ends."""
        said = (self.thinks, self.cap, self.effort, self.closing)
        return any(one is not None for one in said)


class Reader(Protocol):
    """Reads one value."""

    def read(self, value: Any, where: str) -> list[Say]:
        """What it says; :class:`InvalidRequestError` names ``where``."""


Table = Mapping[str, Reader]


def snake(name: str) -> str:
    """``thinkingBudget``, ``thinking-budget`` -> ``thinking_budget``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")


def _bounds(key: str) -> bool:
    """Whether a key that none knows seems to bound something."""
    return not set(_BOUNDING.split()).isdisjoint(snake(key).split("_"))


@dataclass(frozen=True, slots=True)
class _Flag:
    """True or false."""

    true: Mapping[str, Any]
    false: Mapping[str, Any]
    ours: str

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        if not isinstance(value, bool):
            raise BudgetError.of(where, f"must be true or false, not {shown(value)}; {self.ours}.")
        return [Say(where, **(self.true if value else self.false))]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """A number of tokens; where -1 stands for no limit, it says nothing of it."""

    least: int

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        if isinstance(value, bool) or not isinstance(value, int) or value < self.least:
            text = f"must be an integer of {self.least} or more, not {shown(value)}; it is read as "
            raise BudgetError.of(where, f"{text}`budget.max_reasoning_tokens`.")
        return [Say(where, thinks=True) if value < 0 else Say(where, cap=value)]


@dataclass(frozen=True, slots=True)
class _Effort:
    """An effort; which there are is a setting, and is checked with the budget."""

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        return [Say(where, effort=value)]


@dataclass(frozen=True, slots=True)
class _Closing:
    """A text; which tokens it may have is the model's to say."""

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        if not isinstance(value, str) or len(value) > LONGEST_CLOSING:
            text = f"must be a text of at most {LONGEST_CLOSING} characters, not {shown(value)}; "
            raise BudgetError.of(where, f"{text}it is read as `budget.closing`.")
        return [Say(where, closing=value)]


@dataclass(frozen=True, slots=True)
class Words:
    """One of some words."""

    words: Mapping[str, Mapping[str, Any]]

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        if not isinstance(value, str) or value not in self.words:
            text = f"is {shown(value)}. Allowed: {', '.join(self.words)}; or use `budget`."
            raise BudgetError.of(where, text)
        return [Say(where, **self.words[value])]


@dataclass(frozen=True, slots=True)
class Unread:
    """A word that cannot be read as a budget of ours."""

    hint: str

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        what = f"is not supported by this server; {self.hint}."
        raise InvalidRequestError.of(where, what, "unsupported_parameter")


@dataclass(frozen=True, slots=True)
class Inside:
    """An object whose keys are words.

    ``own`` are keys that the API reads itself. Of other keys none is known: where ``strict`` they
    are refused, else only those that seem to bound something.
    """

    table: Table
    own: frozenset[str] = frozenset()
    strict: bool = False

    def reader(self, key: str) -> Reader | None:
        """How a key's value is read."""
        return self.table.get(snake(key))

    def unknown(self, value: Any) -> list[str]:
        """Keys of a value that says nothing by them."""
        keys = value if isinstance(value, dict) else ()
        return [key for key in keys if self.reader(key) is None and key not in self.own]

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        if not isinstance(value, dict):
            raise BudgetError.of(where, f"must be an object, not {shown(value)}; or use `budget`.")
        found: list[Say] = []
        for key, inner in value.items():
            if inner is None or key in self.own:
                continue
            if (reader := self.reader(key)) is not None:
                found += reader.read(inner, f"{where}.{key}")
            elif self.strict or _bounds(key):
                allowed = ", ".join(dict.fromkeys([*self.own, *self.table]))
                text = f"is not supported by this server, which takes {allowed} here; "
                what = f"{text}to bound the reasoning use `budget`."
                raise InvalidRequestError.of(f"{where}.{key[:64]}", what, "unsupported_parameter")
        return found


@dataclass(frozen=True, slots=True)
class TemplateVariables:
    """An object of a chat template's own variables; those in the table are words as well.

    Which variables there are is the model's template's to say, and is checked once it is known.
    """

    table: Table

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        if not isinstance(value, dict):
            raise BudgetError.of(where, f"must be an object, not {shown(value)}; or use `budget`.")
        found: list[Say] = []
        for key, inner in value.items():
            at = f"{where}.{key[:64]}"
            if inner is None:
                continue
            if (reader := self.table.get(key)) is not None:
                found += reader.read(inner, at)
            found.append(Say(at, variable=(key, inner)))
        return found


@dataclass(frozen=True, slots=True)
class Flattened:
    """An object that holds words of the top level, and nothing else."""

    table: Table

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        if isinstance(value, dict):
            for key in value:
                if snake(key) not in self.table:
                    what = f"is a parameter of SDKs: send `{key[:64]}` at the body's top level."
                    raise InvalidRequestError.of(where, what, "unsupported_parameter")
        return Inside(self.table, strict=True).read(value, where)


@dataclass(frozen=True, slots=True)
class Either:
    """True or false, or what another reader takes."""

    flag: Reader
    other: Reader

    def unknown(self, value: Any) -> list[str]:
        """See :class:`Inside`."""
        return self.other.unknown(value) if isinstance(self.other, Inside) else []

    def read(self, value: Any, where: str) -> list[Say]:
        """See :class:`Reader`."""
        return (self.flag if isinstance(value, bool) else self.other).read(value, where)


_OFF = 'false is `budget: "none"`'
_HIDE = "`include_reasoning` says the same"
SWITCH = _Flag({"thinks": True}, {"thinks": False}, _OFF)
SHOWN = _Flag({"shown": True}, {"shown": False}, _HIDE)
HIDDEN = _Flag({"shown": False}, {"shown": True}, _HIDE)
APART = _Flag(
    {"separate": True}, {"separate": False}, "false writes the reasoning into the content"
)
CAP = _Tokens(0)
LIMIT = _Tokens(-1)
EFFORT = _Effort()
CLOSING = _Closing()
