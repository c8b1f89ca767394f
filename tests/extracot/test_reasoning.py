"""The splitter: one text, one outcome, however it is fed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extracot import (
    ControlTokenError,
    Part,
    Piece,
    ReasoningSplitter,
    SplitText,
    ThinkTags,
    split_reasoning,
)

TAGS = ThinkTags()
OTHER_TAGS = (
    ThinkTags("[THINK]", "[/THINK]"),
    ThinkTags("◁think▷", "◁/think▷"),
    ThinkTags("<", ">"),
    ThinkTags("<<a", "<<ab"),
    ThinkTags("aab", "aa b aab"),
)
FRAGMENTS = [
    "<think>", "</think>", "<", ">", "</", "<t", "think", "</thin", "k>", "<think", "</think", "/",
    "<thinking>", "</thinking>", "</think >", "< /think>", "<THINK>", "\n", "\n\n", " ", "\t",
    "\u3000", "\x1c", "a", "2 < 3", "é", "\u200b", "🙂", "<COMP_20>",
]  # fmt: skip


def texts(tags: ThinkTags = TAGS) -> st.SearchStrategy[str]:
    tag_parts = [tags.start, tags.end, tags.end[:-1], tags.start[:-1], tags.end[:1], tags.end[1:]]
    return st.lists(
        st.sampled_from([*FRAGMENTS, *tag_parts]) | st.text(max_size=3), max_size=12
    ).map("".join)


@st.composite
def chunked(draw: st.DrawFn, tags: ThinkTags = TAGS) -> list[str]:
    text = draw(texts(tags))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=10)))
    bounds = [0, *cuts, len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


def merged(pieces: Sequence[Piece]) -> list[tuple[Part, str]]:
    runs = groupby(pieces, key=lambda piece: piece.part)
    return [(part, "".join(piece.text for piece in run)) for part, run in runs]


def fed(splitter: ReasoningSplitter, chunks: Sequence[str]) -> list[tuple[Part, str]]:
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)] + splitter.finish()
    assert all(piece.text for piece in pieces)
    return merged(pieces)


def by_the_rules(
    text: str, tags: ThinkTags, *, in_reasoning: bool, expect_reasoning: bool
) -> list[tuple[Part, str]]:
    """The rules once more, as regular expressions over the whole text."""
    start, end = re.escape(tags.start), re.escape(tags.end)
    closing = rf"{end}(?:\s|{end})*"
    opening = rf"\s*{start}\s*"
    if in_reasoning:
        head = re.match(rf"(?:{opening}|\s*)", text)
    elif expect_reasoning:
        head = re.match(opening, text)
    else:
        head = re.match(rf"\s*{closing}", text)
    parts: list[tuple[Part, str]] = []
    if head is None or (not in_reasoning and not expect_reasoning):
        cut = head.end() if head else 0
        parts = [(Part.MARKUP, text[:cut]), (Part.ANSWER, text[cut:])]
    else:
        rest = text[head.end() :]
        close = re.search(rf"\s*{closing}", rest)
        at, after = close.span() if close else (len(rest), len(rest))
        parts = [
            (Part.MARKUP, head[0]),
            (Part.REASONING, rest[:at]),
            (Part.MARKUP, rest[at:after]),
            (Part.ANSWER, rest[after:]),
        ]
    return merged([Piece(part, run) for part, run in parts if run])


@given(chunked(), st.booleans(), st.booleans())
@example(
    ["\n<thi", "nk>\n\n a <think> b \n", "</thi", "nk>", "\n", "</think>", "\n c </think>"],
    False,
    True,
)
@example([" </thi", "nk> x"], False, False)
@example([" <think> x"], True, True)
def test_any_chunking_gives_what_the_rules_say(
    chunks: list[str], in_reasoning: bool, expect_reasoning: bool
) -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=in_reasoning, expect_reasoning=expect_reasoning)
    found = fed(splitter, chunks)
    text = "".join(chunks)
    assert "".join(run for _, run in found) == text
    assert found == by_the_rules(
        text, TAGS, in_reasoning=in_reasoning, expect_reasoning=expect_reasoning
    )
    assert splitter.finish() == []


@pytest.mark.parametrize("tags", OTHER_TAGS)
@given(data=st.data(), in_reasoning=st.booleans())
def test_other_tags(tags: ThinkTags, data: st.DataObject, in_reasoning: bool) -> None:
    chunks = data.draw(chunked(tags))
    found = fed(ReasoningSplitter(tags, in_reasoning=in_reasoning), chunks)
    assert found == by_the_rules(
        "".join(chunks), tags, in_reasoning=in_reasoning, expect_reasoning=True
    )


REPLY = "\n <think>\n\n2 < 3, </thinking> <think> so\n\n</think>\n</think> \n\nIt is </think> 3.\n"


@pytest.mark.parametrize("in_reasoning", [False, True])
def test_every_split_of_one_reply(in_reasoning: bool) -> None:
    whole = fed(ReasoningSplitter(TAGS, in_reasoning=in_reasoning), [REPLY])
    assert whole == [
        (Part.MARKUP, "\n <think>\n\n"),
        (Part.REASONING, "2 < 3, </thinking> <think> so"),
        (Part.MARKUP, "\n\n</think>\n</think> \n\n"),
        (Part.ANSWER, "It is </think> 3.\n"),
    ]
    for a in range(len(REPLY) + 1):
        for b in range(a, len(REPLY) + 1):
            chunks = [REPLY[:a], REPLY[a:b], REPLY[b:]]
            assert fed(ReasoningSplitter(TAGS, in_reasoning=in_reasoning), chunks) == whole
    assert fed(ReasoningSplitter(TAGS, in_reasoning=in_reasoning), list(REPLY)) == whole


@given(chunked(), st.booleans())
def test_no_more_is_held_back_than_may_be_markup(chunks: list[str], in_reasoning: bool) -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=in_reasoning)
    text = shown = ""
    for chunk in chunks:
        text += chunk
        shown += "".join(piece.text for piece in splitter.feed(chunk))
        assert text.startswith(shown)
        held = text[len(shown) :].lstrip()
        assert TAGS.start.startswith(held) or TAGS.end.startswith(held)
        if splitter.state == "answer" and shown and not text[len(shown) :].startswith("<"):
            assert shown == text


def test_state_opened_and_closed() -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=False)
    seen = []
    for chunk in [" ", "<think>", "why", "</think", ">", "42"]:
        splitter.feed(chunk)
        seen.append((splitter.state, splitter.opened, splitter.closed))
    assert seen == [
        ("before", False, False),
        ("reasoning", True, False),
        ("reasoning", True, False),
        ("reasoning", True, False),
        ("answer", True, True),
        ("answer", True, True),
    ]


def test_opened_by_the_prompt() -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=True)
    assert (splitter.state, splitter.opened, splitter.closed) == ("reasoning", True, False)
    assert splitter.feed("\nwhy") == [Piece(Part.MARKUP, "\n"), Piece(Part.REASONING, "why")]


def test_without_reasoning_tags_are_text() -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=False, expect_reasoning=False)
    assert splitter.state == "answer"
    assert splitter.feed("<think>x</think>") == [Piece(Part.ANSWER, "<think>x</think>")]
    assert (splitter.opened, splitter.closed) == (False, False)


def test_a_stray_end_tag_closes_nothing() -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=False, expect_reasoning=False)
    assert splitter.feed("</think>\n4") == [
        Piece(Part.MARKUP, "</think>\n"),
        Piece(Part.ANSWER, "4"),
    ]
    assert not splitter.closed


def test_reasoning_is_shown_as_it_comes() -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=True)
    assert splitter.feed("a b") == [Piece(Part.REASONING, "a b")]
    assert splitter.feed(" c <") == [Piece(Part.REASONING, " c")]
    assert splitter.feed(" d") == [Piece(Part.REASONING, " < d")]


@pytest.mark.parametrize(
    ("text", "in_reasoning", "expected"),
    [
        ("<think>\nwhy\n</think>\n\n42", False, SplitText("why", "42", True)),
        ("why\n</think>\n\n42", True, SplitText("why", "42", True)),
        ("<think>\nwhy\n", False, SplitText("why\n", "", False)),
        ("why </thi", True, SplitText("why </thi", "", False)),
        ("42", False, SplitText("", "42", False)),
        (" 42 <think>x</think>", False, SplitText("", " 42 <think>x</think>", False)),
        ("<think></think>", False, SplitText("", "", True)),
        ("", True, SplitText("", "", False)),
    ],
)
def test_whole_texts(text: str, in_reasoning: bool, expected: SplitText) -> None:
    assert split_reasoning(text, TAGS, in_reasoning=in_reasoning) == expected


@pytest.mark.parametrize(
    "text",
    [" " * 100_000 + "x", "</think>" * 50_000, "<" * 100_000, "</thin" * 50_000],
    ids=["space", "end tags", "angles", "beginnings"],
)
def test_a_long_reply_by_the_character(text: str) -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=True)
    found = fed(splitter, list(text))
    assert found == by_the_rules(text, TAGS, in_reasoning=True, expect_reasoning=True) or (
        text[0] == " "
    )
    assert "".join(run for _, run in found) == text


@pytest.mark.parametrize(
    ("start", "end"), [("", "</t>"), ("<t>", " "), ("<t> ", "</t>"), ("<t>", "<t>")]
)
def test_tags_that_cannot_work(start: str, end: str) -> None:
    with pytest.raises(ControlTokenError):
        ThinkTags(start, end)


@given(chunked(), st.booleans(), st.booleans())
def test_what_is_certain_need_not_be_fed(
    chunks: list[str], in_reasoning: bool, expect_reasoning: bool
) -> None:
    """Feeding it gives that one piece, and leaving it out changes nothing of what follows."""
    options = {"in_reasoning": in_reasoning, "expect_reasoning": expect_reasoning}
    fed, spared = ReasoningSplitter(TAGS, **options), ReasoningSplitter(TAGS, **options)
    for chunk in chunks:
        part = spared.certain(chunk)
        pieces = fed.feed(chunk)
        if part is not None and chunk:
            assert pieces == [Piece(part, chunk)]
        else:
            assert spared.feed(chunk) == pieces
        assert (spared.state, spared.closed) == (fed.state, fed.closed)
    assert spared.finish() == fed.finish()
