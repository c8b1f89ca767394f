"""Fixtures of the contract's tests."""

from __future__ import annotations

import pytest

from extracot.prompt import Tokenizer
from tests.extracot import zoo


@pytest.fixture(scope="session")
def smollm2() -> Tokenizer:
    """SmolLM2's tokenizer as it is published."""
    return zoo.smollm2()
