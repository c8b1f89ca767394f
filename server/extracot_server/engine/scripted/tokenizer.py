"""A small, lossless tokenizer with a ChatML template, so that the real server runs without a model.

Greedy longest match over a fixed lexicon, single bytes for everything else. It behaves like a
Hugging Face tokenizer where the renderer and the server look (`extracot.prompt.Tokenizer`), and
knows nothing of engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from extracot.control import DEFAULT_RATIOS, POLICY_TOKEN, level_token

TURN_START, TURN_END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
THINK_START, THINK_END = "<think>", "</think>"
CALL_START, CALL_END = "<tool_call>", "</tool_call>"
TOOLS_START, TOOLS_END = "<tools>", "</tools>"

_WORD_LIST = """
about above add added adding after again all also an and another answer any apples are as
assistant at back bags balls be because before below between books both boxed boxes but buy by
can cents check child children circle coins compare compute cost costs count dance day days
divide divided does dollars double each earns eggs eight equal equals even every example
expression fact find first five follow for formula four fraction friends from full gave get
given gives go got half has have he helpful hence her here his hour hours how hundred if in
increase instead into is it its itself just kilometers know large last least left length less
let line long make many means meters method miles minus minutes money month more most much
multiply must my need next nine no not note now number numbers odd of off oh on once one only or
original other our out over oz part people per percent piece place please plus point pounds
price prime problem product proof put question quickly rate ratio read real reason remaining
result right run same say second sells set seven she should show side simple since six small so
solve some square start started step steps still store students subtract such sum sure system
take taken ten than that the their them then there therefore these they thing think third this
those three thus time times to together too total triangle true try twelve twenty two under unit
units until up us use used user value wait was way we week weeks well were what when where which
while who whole why will with within work would write wrong year years yes you your zero
"""
# Pieces that real vocabularies merge too: a tag spelled as text may end inside one of these.
_MERGED = (
    *("\n\n", "</", ">\n", "\\boxed{", " \\boxed{", "..."),
    *(" =", " +", " -", " a", " x", " y", "The", "Let"),
)


class ScriptedTokenizer:
    """Bytes, then special and added tokens, then words; `decode(encode(text)) == text`.

    Lone surrogates, which no UTF-8 text can hold, become U+FFFD. With ``tags_as_text`` the think
    tags are ordinary text of several ids, as in a model that was never taught them;
    ``template_opens_think`` makes the chat template start each reply with `<think>`.
    """

    def __init__(self, *, tags_as_text: bool = False, template_opens_think: bool = False) -> None:
        self._template_opens_think = template_opens_think
        specials = (TURN_START, TURN_END, TEXT_END)
        added = [*specials, *map(level_token, DEFAULT_RATIOS), POLICY_TOKEN]
        if not tags_as_text:
            added += [THINK_START, THINK_END]
        self._added = {token: 256 + index for index, token in enumerate(added)}
        self._special_ids = frozenset(self._added[token] for token in specials)
        words = [form for word in _WORD_LIST.split() for form in (word, word.capitalize())]
        spaced = [piece for word in words for piece in (word, f" {word}")]
        pieces = [*added, *dict.fromkeys([*_MERGED, *spaced])]
        if not tags_as_text:
            for tag in (CALL_START, CALL_END):
                self._added[tag] = 256 + len(pieces)
                pieces.append(tag)
        self._ids: dict[str, int] = {piece: 256 + index for index, piece in enumerate(pieces)}
        self._bytes = [bytes([value]) for value in range(256)] + [p.encode() for p in pieces]
        longest_first = sorted(pieces, key=len, reverse=True)
        self._piece = re.compile("|".join(map(re.escape, longest_first)) + "|.", re.DOTALL)
        self._own: dict[str, tuple[int, ...]] = {}
        self.eos_token = TURN_END
        self.eos_token_id: int | None = self._added[TURN_END]
        self.turn_end_id = self._added[TURN_END]
        self.text_end_id = self._added[TEXT_END]
        self.turn_start_id = self._added[TURN_START]

    def __len__(self) -> int:
        return len(self._bytes)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text; added tokens spelled in it become their single id, as with any tokenizer.

        ``add_special_tokens`` is accepted for parity; this tokenizer adds none.
        """
        ids: list[int] = []
        for match in self._piece.finditer(text):
            piece = match.group()
            known = self._ids.get(piece)
            ids += _utf8(piece) if known is None else [known]
        return ids

    def encode_own(self, text: str) -> tuple[int, ...]:
        """Ids of a text of the script's, of which there are few: they are kept."""
        if (ids := self._own.get(text)) is None:
            ids = self._own[text] = tuple(self.encode(text))
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of ids; incomplete UTF-8 becomes U+FFFD."""
        skipped = self._special_ids if skip_special_tokens else frozenset()
        joined = b"".join(self._bytes[i] for i in ids if i not in skipped)
        return joined.decode("utf-8", errors="replace")

    def id_to_bytes(self, token_id: int) -> bytes:
        """The exact bytes of one id, so that a stream can be decoded id by id."""
        return self._bytes[token_id]

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of one whole token, or None where there is no such token."""
        return self.get_vocab().get(token)

    def get_vocab(self) -> dict[str, int]:
        """All tokens; single bytes are spelled `<0xNN>`, as in other vocabularies."""
        return {f"<0x{value:02X}>": value for value in range(256)} | self._ids

    def get_added_vocab(self) -> dict[str, int]:
        """Turn markers, control tokens and (unless they are text) tags of thoughts and calls."""
        return dict(self._added)

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, Any]],
        /,
        *,
        tokenize: bool = False,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **_: Any,
    ) -> str:
        """ChatML: every turn between its markers, then the opening of the assistant's turn.

        Tools, calls and their answers are written as the Hermes models have them.
        """
        if tokenize:
            raise ValueError("this template renders text only")
        messages = list(conversation)
        if tools:
            head = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
            messages.insert(0, {"role": "system", "content": _tool_prompt(head, tools)})
        turns = [f"{TURN_START}{m['role']}\n{_content(m)}{TURN_END}\n" for m in messages]
        if add_generation_prompt:
            turns.append(f"{TURN_START}assistant\n")
            if self._template_opens_think:
                turns.append(f"{THINK_START}\n")
        return "".join(turns)


def _tool_prompt(system: str, tools: Sequence[Mapping[str, Any]]) -> str:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        (f"{system}\n\n" if system else "")
        + f"# Tools\n\nYou may call these functions:\n{TOOLS_START}\n{listed}\n{TOOLS_END}\n\n"
        + f'Call one like this: {CALL_START}\n{{"name": ..., "arguments": ...}}\n{CALL_END}'
    )


def _content(message: Mapping[str, Any]) -> str:
    if message["role"] == "tool":
        return f"<tool_response>\n{message['content']}\n</tool_response>"
    called = [
        f"{CALL_START}\n{json.dumps(call['function'], ensure_ascii=False)}\n{CALL_END}"
        for call in message.get("tool_calls") or ()
    ]
    return "\n".join([*([message["content"]] if message["content"] or not called else []), *called])


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "\ufffd".encode()
