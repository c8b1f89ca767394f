"""The one retry policy: what is sent again, after which pause, and what ends everything."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from extracot_training.config.sampling import ApiSettings
from extracot_training.errors import GenerationError
from extracot_training.generation.http_client import (
    LONGEST_PAUSE_S,
    JsonClient,
    RequestError,
    RetryPolicy,
    TransientError,
    all_of,
)

pytestmark = pytest.mark.anyio


def client(*replies: httpx.Response, retries: int = 2) -> JsonClient:
    left = list(replies)
    settings = {"base_url": "http://api.test/v1", "retries": retries, "backoff_s": 0.0}
    return JsonClient(
        ApiSettings.model_validate(settings),
        transport=httpx.MockTransport(lambda request: left.pop(0)),
    )


def test_pauses_double_and_heed_the_server() -> None:
    policy = RetryPolicy(retries=9, backoff_s=1.0)
    for attempt, longest in ((1, 1.0), (2, 2.0), (4, 8.0), (9, LONGEST_PAUSE_S)):
        assert longest / 2 <= policy.pause(attempt) <= longest
    assert policy.pause(1, "7") == 7.0
    assert policy.pause(1, "3600") == LONGEST_PAUSE_S
    assert policy.pause(1, "Wed, 21 Oct 2026 07:28:00 GMT") <= 1.0


async def test_attempts_are_counted_and_the_last_failure_is_told() -> None:
    seen: list[int] = []

    async def send(attempt: int) -> int:
        seen.append(attempt)
        if attempt < 3:
            raise TransientError("busy")
        return attempt

    assert await RetryPolicy(2, 0.0).run(send) == 3
    assert seen == [1, 2, 3]
    with pytest.raises(TransientError, match="busy"):
        await RetryPolicy(1, 0.0).run(send)


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
async def test_what_may_pass_is_sent_again(status: int) -> None:
    api = client(httpx.Response(status, text="later"), httpx.Response(200, json={"a": 1}))
    assert await api.request("POST", "/x", json={}) == {"a": 1}


async def test_one_request_may_fail_and_others_not() -> None:
    api = client(*[httpx.Response(200, text="<html>")] * 3, httpx.Response(400, text="too long"))
    with pytest.raises(RequestError, match="/v1/x: the reply is no JSON object") as failed:
        await api.request("GET", "/x")
    assert failed.value.kind == "failed"
    with pytest.raises(RequestError, match="HTTP 400: too long") as refused:
        await api.request("GET", "/x")
    assert refused.value.kind == "refused"


@pytest.mark.parametrize("status", [302, 401, 404])
async def test_what_is_everybodys_fate_is_not_sent_again(status: int) -> None:
    with pytest.raises(GenerationError, match=f"HTTP {status}") as error:
        await client(httpx.Response(status)).request("GET", "/x")
    assert not isinstance(error.value, RequestError)


async def test_the_first_error_cancels_the_others() -> None:
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await all_of([wait(), fail()])
    assert cancelled.is_set()
