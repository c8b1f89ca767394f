"""Whatever stands where clients send earlier reasoning: read, or an error that names its field."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from extracot_server.api.earlier_reasoning import THOUGHTS, EarlierReasoning
from extracot_server.errors import InvalidRequestError

NAMES = ("reasoning", "reasoning_content", "thinking", "reasoning_details", "thinking_blocks")
KEYS = ("text", "thinking", "summary", "content", "signature", "data", "index", "type", "x")
WORDS = st.sampled_from(["", " ", "so", "so ", "bm90IHNpZ25lZA==", "gAAAAA"])
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.sampled_from([*THOUGHTS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=8,
)


def read(work: Any) -> None:
    """Whatever is read is text; whatever is refused is named."""
    try:
        found = work()
    except InvalidRequestError as error:
        assert error.param is not None and error.param.startswith("m")
        assert f"`{error.param}`" in str(error)
        return
    texts = [text for _, text in found] if isinstance(found, list) else [found]
    assert all(isinstance(text, str) for text in texts)


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_a_message(fields: dict[str, Any]) -> None:
    reader = EarlierReasoning(lambda sealed: None)
    read(lambda: reader.of_message(fields, "m"))
    assert all(where.startswith("m.") for where in reader.unread)


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.sampled_from([*THOUGHTS]))
def test_a_part_and_an_item(fields: dict[str, Any], kind: str) -> None:
    reader = EarlierReasoning(lambda sealed: None)
    read(lambda: reader.of_part({**fields, "type": kind}, "m"))
    read(lambda: reader.of_item({**fields, "type": "reasoning"}, "m"))
