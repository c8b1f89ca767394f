r"""The words and signs of mathematics written as plain text, and which brackets belong together.

LaTeX that already has its delimiters counts as one sign; bare commands (``\frac``, ``\le``) are
read here. Knows nothing of expressions. One pass; linear in the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from extracot_training.math_text.vocabulary import (
    ARROWS,
    FUNCTIONS,
    OPERATORS,
    PROSE,
    RELATIONS,
    is_symbol,
)

# Brackets further apart than this do not belong together.
LONGEST_GROUP = 400
_ENDS = 64

# Scripts written without spaces: no word is made of these.
UNSPACED = (
    r"\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0003ffff"
)
# Raised and lowered digits, signs and letters.
SCRIPTS = (
    r"\u00b2\u00b3\u00b9\u02b0-\u02b8\u02e1-\u02e4\u1d2c-\u1d6a\u1d9c-\u1dbb\u2070-\u209c\u2c7c"
)
FRACTIONS = r"\u00bc-\u00be\u2150-\u215e\u2189"


class Kind(Enum):
    """What a lexeme is."""

    FORMULA = "formula"
    SPACE = "space"
    LINE = "line"
    NUMBER = "number"
    RELATION = "relation"
    ARROW = "arrow"
    OPERATOR = "operator"
    SCRIPT = "script"
    PREFIX = "prefix"
    POSTFIX = "postfix"
    OPEN = "open"
    CLOSE = "close"
    PIPE = "pipe"
    COMMAND = "command"
    SYMBOL = "symbol"
    DOTS = "dots"
    MARK = "mark"
    WORD = "word"
    OTHER = "other"
    END = "end"


_NAMES = {kind.value: kind for kind in Kind}
_LETTER = rf"[^\W\d_{UNSPACED}{SCRIPTS}{FRACTIONS}]"
_GREEK = r"\u0370-\u03ff"
_SIDE = r"(?:\\(?:left|right|[bB]igg?[lr]?)[ ]*)?"
_THOUSANDS = r"\d{1,3}(?:(?:(?:,(?:\\!)?|\{,\}|[\u00a0\u202f])\d{3})+|(?:\ 000)+)(?!\d)"
_LEXEME = re.compile(
    rf"(?P<space>[^\S\n]+|\\[,;:!\ ]|\\q?quad(?![A-Za-z])|&(?=\s*(?:[=<>≤≥≈]|\\[lgna]e)))"
    rf"|(?P<line>\n)"
    rf"|(?P<number>(?:[$€£¥]\ ?|\\[$]\ ?)?(?:\.\d+|\d*[{FRACTIONS}]"
    rf"|\d{{1,3}}\ (?:\d{{1,3}}/\d{{1,3}}(?![\w/])|[{FRACTIONS}])"
    rf"|\d+(?::\d+)+|(?:{_THOUSANDS}|\d+)(?:\.\d+)?(?:[\u0304\u0305\u0307]+\d*)*))"
    rf"|(?P<other_rule>={{3,}}|-{{2,}}(?!>)|[∴∵])"
    rf"|(?P<arrow>-{{1,2}}>|=+>|<=+>|[→⟶↦↔⇒⟹⇔⟺←])"
    rf"|(?P<relation>[=≈≠≤≥<>≡≅≃∼∝∈∉∋⊂⊆⊄⊃⊇≪≫≜≔＝⊥∥∣≟≲≳≮≯]=?|:=|!=|(?<=\s)~(?=[\s△∠]))"
    rf"|(?P<mark>\*{{1,3}}(?![\s*])(?<![^\s(\[*'\"“{UNSPACED}]\*)(?<![^\s(\[*'\"“{UNSPACED}]\*\*)"
    rf"(?<![^\s(\[*'\"“{UNSPACED}]\*\*\*)|`+)"
    rf"|(?P<operator>\*\*|(?<=\w)//(?=\w)|[-+−–×·∙⋅*/÷^:±∓∪∩∖⊕⊗⊙∘∧∨∗⁄∕＋－]|_(?=[{{(\d\\]|{_LETTER}))"
    rf"|(?P<script>[{SCRIPTS}]+)"
    rf"|(?P<prefix>[√∛∜∑∏∫∬∭∮∂∇∠∡△∆¬∀∃]|\\[$](?=\\))"
    rf"|(?P<open>{_SIDE}(?:[(\[{{⌊⌈⟨]|\\\{{|\\[lL](?:floor|ceil|angle|vert|Vert|brace|brack)\b)"
    rf"|\\left[ ]*[|.])"
    rf"|(?P<close>{_SIDE}(?:[)\]}}⌋⌉⟩]|\\\}}|\\[rR](?:floor|ceil|angle|vert|Vert|brace|brack)\b)"
    rf"|\\right[ ]*[|.])"
    rf"|(?P<pipe>[|‖]|\\\|)"
    rf"|(?P<postfix>!+|\\?%|[°′″‴]|')"
    rf"|(?P<command>\\[A-Za-z]+\*?)"
    rf"|(?P<dots>\.{{3,}}|[…⋯])"
    rf"|(?P<symbol>[∞∅ℵ□☐▢]|_{{2,}})"
    rf"|(?P<word>[ap]\.m\.|(?:[{_GREEK}]+|(?:(?![{_GREEK}]){_LETTER})+)(?:_\w+)?)"
    rf"|(?P<other>.)"
)
_TABLE_RULE = re.compile(
    r"^[ \t]*(?:\|[ \t]*)?:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+(?:\|[ \t]*)?$", re.M
)
_PAIRS = {")": "([.", "]": "[(.", "}": "{.", "⌋": "⌊.", "⌉": "⌈.", "⟩": "⟨.", "|": "|."}
_PAIRS["."] = "([{⌊⌈⟨|"
_TEXTS = frozenset(("\\text", "\\mathrm", "\\mbox", "\\operatorname", "\\textrm"))
_NAMED = {"floor": "⌊⌋", "ceil": "⌈⌉", "angle": "⟨⟩", "vert": "||", "Vert": "||"}
_NAMED |= {"brace": "{}", "brack": "[]"}


@dataclass(frozen=True, slots=True)
class Group:
    """What stands between two brackets. ``math``: nothing in it looks like prose. ``parts``:
    numbers and names; ``signs``: operators, relations and commas."""

    end: int
    math: bool
    parts: int
    signs: int


@dataclass(slots=True)
class _Open:
    at: int
    bracket: str
    wording: bool
    prose: bool = False
    parts: int = 0
    signs: int = 0


@dataclass(frozen=True, slots=True)
class Lexemes:
    """The lexemes of a text in order, then some that stand for its end, so that looking ahead
    needs no check (nor looking back, as lists count from the end). ``groups``: by the index of the
    opening bracket."""

    text: str
    kinds: list[Kind]
    starts: list[int]
    ends: list[int]
    groups: dict[int, Group] = field(default_factory=dict)

    def word(self, at: int) -> str:
        return self.text[self.starts[at] : self.ends[at]]

    def __len__(self) -> int:
        """Without the ends."""
        return len(self.kinds) - _ENDS


def read_lexemes(text: str, taken: Sequence[tuple[int, int]]) -> Lexemes:
    """Lexemes of ``text``; each span of ``taken`` (sorted, disjoint) is one ``FORMULA``."""
    found = Lexemes(text, [], [], [])
    add_kind, add_start, add_end = found.kinds.append, found.starts.append, found.ends.append
    tables = _tables(text)
    at = 0
    for begin, stop in [*taken, (len(text), len(text))]:
        for match in _LEXEME.finditer(text, at, begin):
            add_kind(_kind(match, tables))
            add_start(match.start())
            add_end(match.end())
        if begin < stop:
            add_kind(Kind.FORMULA)
            add_start(begin)
            add_end(stop)
        at = stop
    found.kinds.extend([Kind.END] * _ENDS)
    found.starts.extend([len(text)] * _ENDS)
    found.ends.extend([len(text)] * _ENDS)
    _close_marks(found)
    _match_brackets(found)
    return found


def _kind(match: re.Match[str], tables: list[tuple[int, int]]) -> Kind:
    name = match.lastgroup or "other"
    if name == "command":
        command = match.group()[1:]
        if command in RELATIONS:
            return Kind.RELATION
        if command in ARROWS:
            return Kind.ARROW
        if command in OPERATORS:
            return Kind.OPERATOR
        return Kind.OTHER if command in PROSE else Kind.COMMAND
    if name == "pipe" and tables:
        while tables and tables[0][1] <= match.start():
            tables.pop(0)
        if tables and tables[0][0] <= match.start():
            return Kind.OTHER
    return _NAMES.get(name, Kind.OTHER)


def _tables(text: str) -> list[tuple[int, int]]:
    """Markdown tables: the line above a rule such as ``|---|---|``, and the lines with ``|``
    below it."""
    found: list[tuple[int, int]] = []
    for rule in _TABLE_RULE.finditer(text):
        if found and rule.start() < found[-1][1]:
            continue
        begin = text.rfind("\n", 0, max(0, rule.start() - 1)) + 1
        end = rule.end()
        while end < len(text):
            stop = text.find("\n", end + 1)
            stop = len(text) if stop < 0 else stop
            if text.find("|", end, stop) < 0:
                break
            end = stop
        found.append((begin, end))
    return found


def _close_marks(found: Lexemes) -> None:
    """``**`` behind a word is a mark if one was opened on its line, else it multiplies."""
    opened: dict[str, int] = {}
    for at, kind in enumerate(found.kinds):
        if kind in (Kind.LINE, Kind.END):
            for opener in opened.values():
                found.kinds[opener] = Kind.OPERATOR
            opened.clear()
        elif kind is Kind.MARK and (word := found.word(at))[0] == "*":
            if word in opened:
                found.kinds[opened[word]] = Kind.OPERATOR
            opened[word] = at
        elif (
            kind is Kind.OPERATOR
            and (word := found.word(at)) in opened
            and found.kinds[at - 1] is not Kind.SPACE
            and found.kinds[at + 1] is not Kind.NUMBER
        ):
            del opened[word]
            found.kinds[at] = Kind.MARK


def _match_brackets(found: Lexemes) -> None:
    stack: list[_Open] = []
    count: Counter[str] = Counter()
    last = Kind.LINE
    for at, kind in enumerate(found.kinds):
        if kind is Kind.LINE:
            if last is Kind.LINE:
                stack.clear()
                count.clear()
            elif stack:
                stack[-1].prose = True
        elif kind is Kind.OPEN:
            bracket = _bracket(found.word(at), 0)
            wording = found.kinds[at - 1] is Kind.COMMAND and found.word(at - 1) in _TEXTS
            stack.append(_Open(at, bracket, wording))
            count[bracket] += 1
        elif kind is Kind.CLOSE:
            _close(found, stack, count, at, _PAIRS[_bracket(found.word(at), 1)])
        elif kind is Kind.PIPE:
            if count["|"] and _ends_operand(last):
                _close(found, stack, count, at, "|")
                last = Kind.CLOSE
                continue
            if not _divides(found, at, last):
                stack.append(_Open(at, "|", wording=False))
                count["|"] += 1
        elif stack:
            _note(stack[-1], kind, found, at)
        if kind is not Kind.SPACE:
            last = kind


def _divides(found: Lexemes, at: int, last: Kind) -> bool:
    """``3 | 12``: a bar with spaces around it, behind something that is no word."""
    spaced = found.kinds[at - 1] is Kind.SPACE and found.kinds[at + 1] is Kind.SPACE
    return spaced and last is not Kind.WORD and _ends_operand(last)


def _ends_operand(kind: Kind) -> bool:
    return kind in _OPERAND_ENDS


_OPERAND_ENDS = frozenset(
    {Kind.NUMBER, Kind.WORD, Kind.CLOSE, Kind.SCRIPT, Kind.POSTFIX, Kind.FORMULA, Kind.COMMAND,
     Kind.SYMBOL, Kind.DOTS}
)  # fmt: skip
_PART_KINDS = frozenset({Kind.NUMBER, Kind.FORMULA, Kind.COMMAND, Kind.SYMBOL, Kind.DOTS})
_SIGN_KINDS = frozenset({Kind.OPERATOR, Kind.RELATION, Kind.ARROW, Kind.SCRIPT, Kind.PREFIX})


def _note(frame: _Open, kind: Kind, found: Lexemes, at: int) -> None:
    if kind is Kind.WORD:
        word = found.word(at)
        if is_symbol(word) or word in FUNCTIONS:
            frame.parts += 1
        else:
            frame.prose = True
    elif kind in _PART_KINDS:
        frame.parts += 1
    elif kind in _SIGN_KINDS:
        frame.signs += 1
    elif kind is Kind.OTHER:
        if found.word(at) in (",", ";", "&"):
            frame.signs += 1
        else:
            frame.prose = True


def _close(found: Lexemes, stack: list[_Open], count: Counter[str], at: int, wanted: str) -> None:
    if not any(count[bracket] for bracket in wanted):
        return
    frame = stack.pop()
    count[frame.bracket] -= 1
    while frame.bracket not in wanted:
        inner = frame
        frame = stack.pop()
        count[frame.bracket] -= 1
        frame.prose = frame.prose or inner.prose
        frame.parts += inner.parts
        frame.signs += inner.signs
    if found.starts[at] - found.starts[frame.at] <= LONGEST_GROUP:
        math = not frame.prose and frame.parts > 0
        found.groups[frame.at] = Group(at, math, frame.parts, frame.signs)
    if stack:
        stack[-1].prose = stack[-1].prose or (frame.prose and not frame.wording)
        stack[-1].parts += frame.parts
        stack[-1].signs += frame.signs


def _bracket(word: str, side: int) -> str:
    named = next((pair for name, pair in _NAMED.items() if word.endswith(name)), None)
    return named[side] if named else word[-1]
