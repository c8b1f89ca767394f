"""When two questions count as the same: normal forms, ids, n-grams."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from extracot_training.math_text.lexemes import UNSPACED

_THOUSANDS = re.compile(r"(?<=\d)[,\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]|_")
# Each character of a script without spaces counts as a word: here Tibetan's and Burmese's, too, and
# the signs that stand for Han ones. Hangul has spaces.
_UNSPACED = UNSPACED + r"\u0f00-\u109f\u3005-\u3007"
_PROSE = re.compile(rf"\d+(?:\.\d+)?|(?=[^\W\d_])[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+")
_WITHIN = re.compile(r"(?<=[\w,;:)\"'] )[\"']?([^\W\d_a-z][^\W\d_A-Z]+)")
_CURLY = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2212\u2044", "''\"\"---/")
_MARKS = {"<super>": "^", "<sub>": "_", "<fraction>": " "}
"""What NFKC would leave out, by the kind of character that it takes apart."""
NUMBER_WORDS = frozenset(
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
)

PRONOUNS = frozenset(
    ["i", "me", "my", "mine", "we", "us", "our", "ours", "you", "your", "yours", "he", "him", "his",
     "she", "her", "hers", "it", "its", "they", "them", "their", "theirs", "myself", "ourselves",
     "yourself", "himself", "herself", "itself", "themselves"]
)  # fmt: skip


def clean(text: str) -> str:
    """Text fit to be stored: NFC, ``\\n`` line ends, no control characters, no space around."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return "".join(kept).strip()


def normal_form(question: str) -> str:
    """Equal for questions that differ only in case, spacing, quotes or ``1,000`` for ``1000``.

    Signs are kept (mathematics lives in them, a factorial too); sentence punctuation at the very
    end is not.

    >>> normal_form("What is 3²?"), normal_form("What is 5!?"), normal_form("What a day!")
    ('what is 3 ^ 2', 'what is 5 !', 'what a day')
    """
    found = _WORD.findall(_plain(question).casefold())
    kept = len(found)
    while kept and found[kept - 1] in (".", "?", "!"):
        kept -= 1
    if kept and _has_factorial(found[kept - 1]):
        while kept < len(found) and found[kept] == "!":
            kept += 1
    return " ".join(found[:kept])


def _has_factorial(word: str) -> bool:
    """Whether a ``!`` behind it is one of mathematics: behind a number, a letter or a bracket."""
    return word[0].isdigit() or word in (")", "]", "}") or (len(word) == 1 and word.isalpha())


def _plain(text: str) -> str:
    """One spelling of each character (NFKC), ``1000`` for ``1,000``; what is raised, lowered or a
    fraction stays told apart from plain digits: ``3²`` is ``3^2``, ``3½`` is ``3 1/2``."""
    text = _THOUSANDS.sub("", text)
    if text.isascii():
        return text
    pieces, before = [], ""
    for character in text:
        kind = unicodedata.decomposition(character).partition(" ")[0]
        mark = _MARKS.get(kind, "")
        pieces.append(character if kind == before and mark != " " else mark + character)
        before = kind if mark else ""
    text = unicodedata.normalize("NFKC", "".join(pieces)).translate(_CURLY)
    return _THOUSANDS.sub("", text)


def words(question: str, *, mask_numbers: bool) -> list[str]:
    """The words and numbers of a question, for n-grams; numbers become ``#`` when masked. Where a
    script has no spaces each character is a word.

    >>> words("Tom has 3 hens", mask_numbers=True), words("他有3只鸡", mask_numbers=True)
    (['tom', 'has', '#', 'hens'], ['他', '有', '#', '只', '鸡'])
    """
    found = _PROSE.findall(_plain(question).casefold())
    if not mask_numbers:
        return found
    return ["#" if word[0].isdigit() or word in NUMBER_WORDS else word for word in found]


def template_words(question: str) -> list[str]:
    """As :func:`words` with masked numbers; names (words with a capital within a sentence) are
    ``@`` too, and pronouns ``~``.

    >>> template_words("Tom has 3 hens. He sells one to Ann.")
    ['tom', 'has', '#', 'hens', '~', 'sells', '#', 'to', '@']
    """
    capital = (word for word in _WITHIN.findall(_plain(question)) if word[0].isupper())
    names = {word.casefold() for word in capital} - PRONOUNS
    found = words(question, mask_numbers=True)
    return ["@" if word in names else "~" if word in PRONOUNS else word for word in found]


def numbers_in(question: str) -> list[str]:
    """The numbers of a question as it writes them, in their order."""
    found = words(question, mask_numbers=False)
    return [word for word in found if word[0].isdigit() or word in NUMBER_WORDS]


def ngrams(items: list[str], n: int) -> set[tuple[str, ...]]:
    """All runs of ``n`` items; a shorter list is one run of its own length (none if empty)."""
    if not items:
        return set()
    n = min(n, len(items))
    return {tuple(items[start : start + n]) for start in range(len(items) - n + 1)}


def problem_id(source: str, question: str) -> str:
    """``source-0123456789ab``: the same question of the same source always has the same id."""
    digest = hashlib.sha256(f"{source}\0{normal_form(question)}".encode()).hexdigest()
    return f"{source}-{digest[:12]}"


def unit_interval(*parts: object) -> float:
    """A number in [0, 1) that depends on ``parts`` alone, for seeded choices per row."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
