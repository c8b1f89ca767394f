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


@given(chunked(), st.booleans(), st.booleans(), st.booleans())
def test_what_is_certain_need_not_be_fed(
    chunks: list[str], in_reasoning: bool, expect_reasoning: bool, marked: bool
) -> None:
    """Feeding it gives that one piece, and leaving it out changes nothing of what follows."""
    options = {"in_reasoning": in_reasoning, "expect_reasoning": expect_reasoning}
    tags = (TAGS.start, TAGS.end) if marked else ()
    fed = ReasoningSplitter(TAGS, **options, marked=tags)
    spared = ReasoningSplitter(TAGS, **options, marked=tags)
    for chunk in chunks:
        part = spared.certain(chunk)
        pieces = fed.feed(chunk)
        if part is not None and chunk:
            assert pieces == [Piece(part, chunk)]
        else:
            assert spared.feed(chunk) == pieces
        assert (spared.state, spared.closed) == (fed.state, fed.closed)
    assert spared.finish() == fed.finish()


MARKED = (TAGS.start, TAGS.end)


@st.composite
def mixed(draw: st.DrawFn) -> list[str | list[str]]:
    """Tags (one text in a list) among texts that spell some, cut anywhere."""
    marks = st.sampled_from([[TAGS.start], [TAGS.end]])
    return draw(st.lists(marks | chunked().filter(bool).map("".join), max_size=10))


def by_the_rules_of_marks(
    items: Sequence[str | list[str]], *, in_reasoning: bool, expect_reasoning: bool
) -> list[tuple[Part, str]]:
    """The rules for marked tags once more: one character or tag at a time, looking ahead."""
    flat: list[tuple[bool, str]] = []
    for item in items:
        flat += [(True, item[0])] if isinstance(item, list) else [(False, c) for c in item]
    inside, begun, had = in_reasoning, False, in_reasoning  # begun: past white space at a tag
    answered, closed = False, not (in_reasoning or expect_reasoning)
    out: list[Piece] = []
    for at, (tag, text) in enumerate(flat):
        part = Part.REASONING if inside else Part.ANSWER
        later = next(((t, x) for t, x in flat[at:] if t or not x.isspace()), None)
        if not tag:
            if not text.isspace():
                begun = True
                answered = answered or not inside
                closed = closed and inside
            elif inside and not begun:
                part = Part.MARKUP
            elif inside:
                part = Part.MARKUP if later == (True, TAGS.end) else part
            elif closed and had:
                part = Part.MARKUP
            elif not answered:
                opens = (
                    later is not None
                    and later[0]
                    and (later[1] == TAGS.start or not expect_reasoning)
                )
                part = Part.MARKUP if opens else part
        elif text == TAGS.start:
            part = Part.MARKUP
            if not inside and expect_reasoning:
                inside, had, begun, closed = True, True, False, False
            elif not inside and not answered:
                had = True
        elif inside:
            part, inside, closed, answered = Part.MARKUP, False, True, True
        elif expect_reasoning and not had:
            part, answered = Part.ANSWER, True
        else:
            part = Part.MARKUP
            if not answered:
                had = True
        out.append(Piece(part, text))
    return merged(out)


@given(mixed(), st.booleans(), st.booleans())
@example([" a ", ["</think>"], "</think>", ["<think>"], " b</think> ", ["</think>"]], True, True)
def test_marked_tags_count_and_spelled_ones_are_text(
    items: list[str | list[str]], in_reasoning: bool, expect_reasoning: bool
) -> None:
    expect_reasoning = expect_reasoning or in_reasoning
    splitter = ReasoningSplitter(
        TAGS, in_reasoning=in_reasoning, expect_reasoning=expect_reasoning, marked=MARKED
    )
    pieces: list[Piece] = []
    for item in items:
        pieces += splitter.mark(item[0]) if isinstance(item, list) else splitter.feed(item)
    pieces += splitter.finish()
    assert all(piece.text for piece in pieces)
    assert merged(pieces) == by_the_rules_of_marks(
        items, in_reasoning=in_reasoning, expect_reasoning=expect_reasoning
    )


def test_a_block_may_open_again_by_a_mark_alone() -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=True, marked=MARKED)
    found = splitter.feed("a <think> </think> b\n") + splitter.mark("</think>")
    found += splitter.feed("\n\nOne <think>. ") + splitter.mark("<think>")
    assert splitter.state == "reasoning"
    found += splitter.feed("\nmore") + splitter.mark("<think>") + splitter.feed(" c")
    found += splitter.mark("</think>") + splitter.mark("</think>") + splitter.feed(" Two.")
    parts = {part: "".join(p.text for p in found if p.part is part) for part in Part}
    assert parts[Part.REASONING] == "a <think> </think> bmore c"
    assert parts[Part.ANSWER] == "One <think>. Two."


def test_one_tag_may_be_marked_and_the_other_spelled() -> None:
    splitter = ReasoningSplitter(TAGS, in_reasoning=False, marked=[TAGS.end])
    found = splitter.feed("<think>a </think> b") + splitter.mark("</think>")
    found += splitter.feed("c") + splitter.finish()
    assert merged(found) == [
        (Part.MARKUP, "<think>"),
        (Part.REASONING, "a </think> b"),
        (Part.MARKUP, "</think>"),
        (Part.ANSWER, "c"),
    ]
    other = ReasoningSplitter(TAGS, in_reasoning=False, marked=[TAGS.end])
    assert other.feed("<thi") == []
    assert merged(other.mark("</think>")) == [(Part.ANSWER, "<thi</think>")]


def test_an_end_tag_without_any_block_is_shown() -> None:
    """What stands before it may be reasoning that nothing announced."""
    splitter = ReasoningSplitter(TAGS, in_reasoning=False, marked=MARKED)
    found = splitter.feed("so") + splitter.mark("</think>") + splitter.feed("4")
    assert merged(found) == [(Part.ANSWER, "so</think>4")]
