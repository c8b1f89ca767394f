"""The soak's short form: `make soak` sends ten times as many requests."""

from __future__ import annotations

import pytest

from tests.server.soak import soak


@pytest.mark.slow
def test_thousands_of_requests_many_of_them_abandoned() -> None:
    """Zero requests in the engine, flat memory, counters that add up; see the module for how."""
    print(soak(2_000))
