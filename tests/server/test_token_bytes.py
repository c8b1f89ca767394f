"""The bytes beside log-probabilities: joined they are the answer, however its tokens are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from extracot_server.generation.token_bytes import shares, token_bytes
from tests.extracot import zoo
from tests.server.live import Live, collect, serve

TOKENIZER = ScriptedTokenizer()
END = TOKENIZER.get_added_vocab()["</think>"]
TEXT = "Is it 🙂 ≈ é, or 𝔁? Naïve "


@pytest.mark.parametrize("build", ["bytes", "bytes_nfkc", "llama_legacy", "unigram_always"])
def test_the_bytes_of_a_vocabulary(build: str) -> None:
    tokenizer = zoo.tokenizer(build)
    own = token_bytes(tokenizer)
    text = TEXT.replace("𝔁", "x").replace("🙂 ≈ ", "") if build == "unigram_always" else TEXT
    ids = tokenizer.encode(text, add_special_tokens=False)
    joined = b"".join(map(own, ids)).decode()
    whole = tokenizer.decode(ids)
    assert joined in (whole, f" {whole}")
    (tag,) = tokenizer.encode("<|im_end|>", add_special_tokens=False)
    assert own(tag) == b"<|im_end|>"
    assert own(len(tokenizer.get_vocab()) + 9) == b""


def test_other_vocabularies_have_the_bytes_of_their_text() -> None:
    tokenizer = zoo.tokenizer("word_piece")
    ids = tokenizer.encode("Please reason", add_special_tokens=False)
    own = token_bytes(tokenizer)
    assert [own(i) for i in ids] == [tokenizer.decode([i]).encode() for i in ids]

    class Plain:
        """A tokenizer that only decodes."""

        def decode(self, ids: list[int], **_: Any) -> str:
            """Text of ids."""
            return "é" * len(ids)

    assert token_bytes(Plain())(3) == "é".encode()  # type: ignore[arg-type]


@given(st.text(max_size=9), st.lists(st.integers(0, 255), max_size=9))
def test_shares_joined_are_the_text(text: str, ids: list[int]) -> None:
    parts = shares(text, ids, TOKENIZER.id_to_bytes)
    assert len(parts) == len(ids)
    assert b"".join(parts) == (text.encode() if ids else b"")
    bytewise = list(text.encode())
    assert shares(text, bytewise, TOKENIZER.id_to_bytes) == [bytes([b]) for b in bytewise]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with serve(card="none") as server:
        yield server


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("stop", [None, ["≈"], ["aï"], [" \\boxed"]])
def test_bytes_joined_are_the_content(live: Live, size: int, stop: list[str] | None) -> None:
    says = (END, *TOKENIZER.encode(f"\n\n {TEXT}"))
    broken = (END, 0xE2, 0x89, *TOKENIZER.encode(" the \n"), 0xF0, 0x9F)
    for reply in (says, broken):
        live.engine.behaviour = ScriptedBehaviour(says=reply, tokens_per_delta=size)
        fields = {"logprobs": True, "top_logprobs": 2, "stop": stop}
        choice = live.chat(**fields)["choices"][0]
        streamed = collect(live.chunks(**fields))
        assert streamed["logprobs"] == choice["logprobs"]
        rows = choice["logprobs"]["content"]
        content = choice["message"]["content"]
        assert b"".join(bytes(row["bytes"]) for row in rows) == content.encode()
        for chunk in live.chunks(**fields):  # and of every chunk
            (part,) = chunk["choices"]
            if part["logprobs"] is not None:
                shown = b"".join(bytes(row["bytes"]) for row in part["logprobs"]["content"])
                assert shown.decode() == part["delta"]["content"]


def test_half_a_character_has_its_own_bytes(live: Live) -> None:
    live.engine.behaviour = ScriptedBehaviour(says=(END, *"🙂".encode()))
    rows = live.chat(logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"]
    assert [row["bytes"] for row in rows] == [[0xF0], [0x9F], [0x99], [0x82]]
    assert [row["top_logprobs"][0]["bytes"] for row in rows] == [row["bytes"] for row in rows]
    assert {row["token"] for row in rows} == {"\ufffd"}
