"""Where a sentence or a line ends."""

from __future__ import annotations

import pytest

from extracot_server.generation.sentence_ends import ends_between


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("So it is 19.", " Next"),
        ("So it is 19. ", "Next"),
        ("Is it 19?", "\n"),
        ("(It is 19.)", " Next"),
        ("It is *19*.**", " Next"),
        ("It is 19", "\n\nNext"),
        ("It is 19", " \n"),
        ("It is 19.\n\n", "Next"),
        ("| 1 | 2 |\n", "| 3"),
        ("总共是十九。", "然后"),
        ("他说「是」。」", "然后"),
        ("And so on…", " Next"),
    ],
)
def test_an_end(before: str, after: str) -> None:
    assert ends_between(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("It is 3.", "14"),
        ("It is", " 19"),
        ("See example.", "com"),
        ("So:\n2.", " Multiply"),
        ("2.", " Multiply"),
        ("So:\na)", " Multiply"),
        ("First, 12", ","),
        ("", "\n"),
        ("\n", "So"),
        ("It is 19.", ""),
        ("What?", "!"),
    ],
)
def test_no_end(before: str, after: str) -> None:
    assert not ends_between(before, after)
