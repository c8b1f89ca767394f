"""Formats of answers on the remote engine: what upstreams are asked before a token is paid for."""

from __future__ import annotations

import pytest

from extracot_server.engine.base import (
    SCHEMA_FIELD,
    AnswerFormat,
    EngineError,
    EngineRequestError,
)
from tests.server.engine.remote_fakes import GENERATE, FakeUpstream, Faults, remote, upstreams

pytestmark = pytest.mark.anyio
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


@pytest.mark.parametrize("scale_out", [True, False], ids=["generate", "completions"])
async def test_a_schema_is_tried_once_and_a_bad_one_refused(scale_out: bool) -> None:
    fake = FakeUpstream(scale_out=scale_out)
    async with upstreams(fake), remote(fake) as engine:
        await engine.check_format(AnswerFormat("json_object"))
        assert fake.served == 0
        await engine.check_format(AnswerFormat("json_schema", SCHEMA))
        asked = fake.served
        assert asked == (1 if scale_out else 2)
        path, body = fake.bodies[-1]
        values = body["sampling_params"] if path == GENERATE else body
        assert values["max_tokens"] == 1 and values["structured_outputs"] == {"json": SCHEMA}
        await engine.check_format(AnswerFormat("json_schema", dict(reversed(SCHEMA.items()))))
        assert fake.served == asked, "it is known to be good"
        with pytest.raises(EngineRequestError, match="nonsense") as caught:
            await engine.check_format(AnswerFormat("json_schema", {"type": "nonsense"}))
        assert caught.value.param == SCHEMA_FIELD
        assert fake.served == asked, "that is wrong whatever the upstream is"
        assert await engine.in_flight() == 0


async def test_what_an_upstream_refuses_of_a_schema_is_found_by_asking() -> None:
    fake = FakeUpstream()  # its grammar is the scripted engine's
    schema = {"type": "object", "properties": {"ids": {"type": "array", "uniqueItems": True}}}
    async with upstreams(fake), remote(fake) as engine:
        for _ in range(2):
            with pytest.raises(EngineRequestError) as caught:
                await engine.check_format(AnswerFormat("json_schema", schema))
            named = f"`{SCHEMA_FIELD}.properties.ids`: `uniqueItems`, as it is used here"
            assert str(caught.value).startswith(named) and "of the upstream" in str(caught.value)
            assert caught.value.param == SCHEMA_FIELD
        asked = fake.served
        with pytest.raises(EngineRequestError):
            await engine.check_format(AnswerFormat("json_schema", schema))
        assert fake.served == asked, "it is known to be bad"


@pytest.mark.parametrize("why", ["grammar", "broken"])
async def test_a_failure_of_an_upstream_is_the_schemas_only_if_it_fails_with_it(why: str) -> None:
    broken = Faults(answer=(500, ""), only_formats=why == "grammar")
    fake = FakeUpstream(faults=broken)
    async with upstreams(fake), remote(fake) as engine:
        with pytest.raises(EngineError) as caught:
            await engine.check_format(AnswerFormat("json_schema", SCHEMA))
        assert isinstance(caught.value, EngineRequestError) is (why == "grammar")
