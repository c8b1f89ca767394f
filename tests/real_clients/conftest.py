"""What each client's tests have: a server that records, and the words of a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_clients.recording import Recorded, recorded

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder has the mark; its installs are long, the rest is not."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.clients)


@pytest.fixture(scope="module")
def module_server() -> Iterator[Recorded]:
    """One server for a client's tests."""
    with recorded() as server:
        yield server


@pytest.fixture
def server(module_server: Recorded) -> Recorded:
    """That server with nothing recorded yet."""
    module_server.forget()
    return module_server
