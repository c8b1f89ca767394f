"""Servers that tests share. A test that changes or kills its engine starts one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, serve


@pytest.fixture(scope="session")
def token_server() -> Iterator[Live]:
    """A trained checkpoint with its card: token mode."""
    with serve() as live:
        yield live


@pytest.fixture(scope="session")
def cap_server() -> Iterator[Live]:
    """A reasoning model without a card whose think tags are one id each: cap mode."""
    with serve(card="none", assumed_reasoning_tokens=100) as live:
        yield live


@pytest.fixture(scope="session")
def text_tags_server() -> Iterator[Live]:
    """Cap mode on a model for which the think tags are plain text of several ids."""
    behaviour = ScriptedBehaviour(tags_as_text=True)
    with serve(behaviour, card="none", assumed_reasoning_tokens=100) as live:
        yield live


@pytest.fixture(scope="session", params=["single-id tags", "tags as text"])
def any_cap_server(request: pytest.FixtureRequest) -> Live:
    """Both kinds of cap mode."""
    name = "cap_server" if request.param == "single-id tags" else "text_tags_server"
    live: Live = request.getfixturevalue(name)
    return live
