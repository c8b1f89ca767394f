"""Untrusted text as token ids that are never control tokens.

A tokenizer turns ``<|im_end|>`` typed by a user into the very id that ends a turn; here it stays
ten characters. Knows tokenizers, and nothing of messages, templates or levels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import groupby, pairwise
from typing import Any, Protocol

from extracot.errors import PromptError

# Characters that a vocabulary lacks unless it holds every byte: cuneiform, Linear B, Cyrillic's
# many-eyed O, a private one. Several, because normalisers drop some.
_RARE = "\U00012000 \U00010082 \ua66e \ue000"


class Tokenizer(Protocol):
    """What is asked of a tokenizer; the fast ones of ``transformers`` satisfy it."""

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a reply."""

    def encode(self, text: str, /, *, add_special_tokens: bool = ...) -> list[int]:
        """Token ids of a text; added tokens spelled out in it become their ids."""

    def decode(self, ids: list[int], /, *, skip_special_tokens: bool = ...) -> str:
        """Text of token ids."""

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id, added tokens included."""

    def get_added_vocab(self) -> dict[str, int]:
        """The added tokens with their ids, special ones included."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        /,
        *,
        tokenize: bool = ...,
        add_generation_prompt: bool = ...,
        **kwargs: Any,
    ) -> Any:
        """The conversation as text, when ``tokenize`` is false."""


class TextEncoder:
    """Encodes text so that no *protected* id comes out, however the text is spelled.

    Protected are the added tokens, special or not, the end token and ``reserved`` (control
    tokens and think tags, which some vocabularies hold as ordinary tokens). Not protected: white
    space and single characters that a vocabulary adds as tokens (they mean themselves), and the
    unknown token where it is nothing else.

    A text is encoded as it is; only if a protected id comes out is it cut, after the first
    character of each spelling of a protected token, and the pieces are encoded one by one.
    Normalisers make tokens from other spellings: a piece that still yields one is cut where a
    usual one (case, full-width forms, accents, invisible characters) would, and then, because
    there are others, halved until none comes out. What comes out is checked, never assumed.

    Some tokenizers put a space before every beginning (SentencePiece's dummy prefix). They get
    to do so where they would in a whole prompt, and not before every piece.
    """

    def __init__(self, tokenizer: Tokenizer, *, reserved: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._unk: int | None = getattr(tokenizer, "unk_token_id", None)
        self._spellings = self._protected_spellings(reserved)
        self.protected_ids = frozenset(self._spellings)
        # An unknown token is harmless, but spelled out it should stay text like any other.
        self._suspect = self.protected_ids | ({self._unk} if self._unk is not None else set())
        self._guard, self._guard_ids = self._find_guard()
        self._restarts: dict[int, bool] = {}

    def encode_text(self, text: str, *, beginning: bool = False) -> list[int]:
        """Token ids of ``text``, none of them protected; see :meth:`is_beginning`.

        Raises :class:`PromptError` for lone surrogates, which are no text, and for a character
        that the tokenizer knows only as a protected token.
        """
        if not text:
            return []
        check_unicode(text)
        ids = self.encode_trusted(text, beginning=beginning)
        if self._suspect.isdisjoint(ids):
            return ids
        return self._encode_clean(self._cut(text), (self._cut_folded, _halves))

    def encode_trusted(self, text: str, *, beginning: bool = False) -> list[int]:
        """Token ids of text of ours, added tokens included."""
        if self._guard and not beginning:
            ids = self._encode(self._guard + text)
            count = len(self._guard_ids)
            if ids[:count] == self._guard_ids:
                return ids[count:]
        return self._encode(text)

    def is_beginning(self, before: Sequence[int]) -> bool:
        """Whether the tokenizer would treat what comes after these ids as a beginning.

        Some do after an added token (older SentencePiece conversions), and not after each.
        """
        if not before or not self._guard or before[-1] not in self._spellings:
            return not before
        last = before[-1]
        if last not in self._restarts:
            ids = self._encode(f"{self._spellings[last]}b")
            self._restarts[last] = ids == [last, *self._encode("b")]
        return self._restarts[last]

    def begins_with_token(self, text: str) -> bool:
        """Whether a text begins with the spelling of a protected token."""
        return any(text.startswith(token) for token in self._spellings.values())

    def single_id(self, token: str) -> int | None:
        """The one id that ``token`` is; ``None`` if it is several or unknown."""
        ids = self._encode(token)
        return ids[0] if len(ids) == 1 and ids[0] != self._unk else None

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _protected_spellings(self, reserved: Iterable[str]) -> dict[int, str]:
        tokenizer = self._tokenizer
        found = {
            id_: token
            for token, id_ in tokenizer.get_added_vocab().items()
            if token.strip() and len(token) > 1
        }
        end = tokenizer.eos_token_id
        if end is not None and (token := tokenizer.decode([end])).strip():
            found.setdefault(end, token)
        if self._means_unknown():
            found = {id_: token for id_, token in found.items() if id_ != self._unk}
        for token in reserved:
            if (id_ := self.single_id(token)) is not None:
                found[id_] = token
        return found

    def _means_unknown(self) -> bool:
        """The unknown token stands for characters the tokenizer lacks, and for nothing else.

        Byte-level tokenizers name one and never use it. Others name the end or the padding; it
        is then protected, and a text that would need it is refused.
        """
        others = ("eos_token_id", "bos_token_id", "pad_token_id", "sep_token_id", "cls_token_id")
        return (
            self._unk is not None
            and self._unk not in {getattr(self._tokenizer, name, None) for name in others}
            and self._unk in self._encode(_RARE)
        )

    def _find_guard(self) -> tuple[str, list[int]]:
        """A text to encode in front of a continuation, if beginnings are treated specially."""
        alone = self._encode("b")
        for guard in ("\n", ".", "a", "0", ","):
            ids = self._encode(guard)
            if not ids or self._unk in ids:
                continue
            both = self._encode(guard + "b")
            if both == ids + alone:
                break
            if both[: len(ids)] == ids and len(both) > len(ids):
                return guard, ids
        return "", []

    @cached_property
    def _needles(self) -> re.Pattern[str]:
        """Matches, without consuming, wherever the spelling of a suspect token begins."""
        return _beginnings(self._suspect_spellings())

    @cached_property
    def _folded_needles(self) -> re.Pattern[str]:
        """The same, for spellings that are folded like the text."""
        spellings = ("".join(map(_fold, token)) for token in self._suspect_spellings())
        return _beginnings(spelling for spelling in spellings if len(spelling) > 1)

    def _suspect_spellings(self) -> set[str]:
        spellings = {token for token in self._spellings.values() if len(token) > 1}
        unknown = getattr(self._tokenizer, "unk_token", None)
        return spellings | ({unknown} if isinstance(unknown, str) and len(unknown) > 1 else set())

    def _cut(self, text: str) -> list[str]:
        """Pieces of ``text``, none of which holds the spelling of a suspect token."""
        return _pieces(text, (match.start() + 1 for match in self._needles.finditer(text)))

    def _cut_folded(self, text: str) -> list[str]:
        """Pieces of ``text``, none of which reads as a suspect token to a usual normaliser."""
        folded = [_fold(character) for character in text]
        origin = [n for n, characters in enumerate(folded) for _ in characters]
        found = self._folded_needles.finditer("".join(folded))
        return _pieces(text, (origin[match.start()] + 1 for match in found))

    def _encode_clean(
        self, pieces: Sequence[str], cutters: Sequence[Callable[[str], list[str]]]
    ) -> list[int]:
        """Ids of the pieces, none protected: a piece that yields one goes to the next cutter."""
        cut, *others = cutters
        ids: list[int] = []
        for piece in pieces:
            found = self.encode_trusted(piece)
            if not self.protected_ids.isdisjoint(found):
                found = self._encode_clean(cut(piece), others or cutters)
            ids += found
        return ids


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text; a Python string may hold lone surrogates, too."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_unicode(text: str, field: str | None = None) -> None:
    """Raise :class:`PromptError` for lone surrogates."""
    if not is_unicode(text):
        raise PromptError("holds a lone surrogate, which is not valid Unicode text", field=field)


def _pieces(text: str, cuts: Iterable[int]) -> list[str]:
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)]) if a < b]


def _halves(piece: str) -> list[str]:
    # One character may stand for several (a ligature), and those for a token.
    text = piece if len(piece) > 1 else unicodedata.normalize("NFKD", piece)
    if len(text) < 2:
        raise PromptError(f"holds {piece!r}, which this tokenizer has only as a reserved token")
    return [text[: len(text) // 2], text[len(text) // 2 :]]


@lru_cache(maxsize=4096)
def _fold(character: str) -> str:
    """What a character may come down to: no width, case, accent; nothing, if it is invisible."""
    parts = unicodedata.normalize("NFKD", character).casefold()
    # Marks, and control, format and private characters.
    return "".join(part for part in parts if unicodedata.category(part)[0] not in "MC")


def _beginnings(spellings: Iterable[str]) -> re.Pattern[str]:
    words = sorted(set(spellings))
    return re.compile(f"(?={_any_of(words)})" if words else "(?!)")


def _any_of(words: Sequence[str]) -> str:
    """A pattern that matches the beginning of any of the sorted words, as a trie.

    A plain alternation tries every word at every place. A word that begins with another one is
    covered by it.
    """
    if not words or not words[0]:
        return ""
    branches = []
    for _, group in groupby(words, key=lambda word: word[0]):
        same = list(group)
        shared = 1  # sorted: what the first and the last share, all share
        while same[0][shared : shared + 1] == same[-1][shared : shared + 1] != "":
            shared += 1
        branches.append(re.escape(same[0][:shared]) + _any_of([word[shared:] for word in same]))
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
