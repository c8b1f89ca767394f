"""Spelling and parsing of levels, and what a control may hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import (
    DEFAULT_RATIOS,
    POLICY_TOKEN,
    Control,
    ControlKind,
    ControlTokenError,
    level_token,
    parse_level_token,
)


def test_the_levels_of_the_paper() -> None:
    assert [level_token(ratio) for ratio in DEFAULT_RATIOS] == [
        "<COMP_20>",
        "<COMP_40>",
        "<COMP_60>",
        "<COMP_80>",
        "<COMP_100>",
    ]


@given(st.integers(1, 100))
def test_every_whole_percent_is_read_back(percent: int) -> None:
    assert level_token(percent / 100) == f"<COMP_{percent}>"
    assert parse_level_token(f"<COMP_{percent}>") == percent / 100


@pytest.mark.parametrize(
    "ratio", [0, -0.2, 0.005, 0.205, 1.01, 20, True, float("nan"), float("inf"), 1e-12]
)
def test_other_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(ControlTokenError, match="whole percents"):
        level_token(ratio)


@pytest.mark.parametrize(
    "token",
    [
        POLICY_TOKEN,
        "",
        "<COMP_0>",
        "<COMP_020>",
        "<COMP_101>",
        "<COMP_20> ",
        "<COMP_20>\n",
        "<comp_20>",
        "<COMP_２０>",
        "x<COMP_20>",
        "<COMP_1000>",
    ],
)
def test_look_alikes_are_no_levels(token: str) -> None:
    assert parse_level_token(token) is None


@given(st.text())
def test_parsing_is_total(text: str) -> None:
    ratio = parse_level_token(text)
    assert ratio is None or level_token(ratio) == text


def test_controls() -> None:
    assert Control.level("<COMP_20>") == Control(ControlKind.LEVEL, "<COMP_20>")
    assert Control.policy().token == POLICY_TOKEN
    assert [Control.native().kind, Control.none().kind, Control.open().kind] == [
        ControlKind.NATIVE,
        ControlKind.NONE,
        ControlKind.OPEN,
    ]


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        (ControlKind.LEVEL, None),
        (ControlKind.POLICY, ""),
        (ControlKind.NATIVE, "<COMP_20>"),
        (ControlKind.NONE, ""),
    ],
)
def test_a_control_has_a_token_exactly_where_it_needs_one(kind: Any, token: Any) -> None:
    with pytest.raises(ControlTokenError, match=kind.value):
        Control(kind, token)
