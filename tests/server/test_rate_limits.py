"""A key's rate over HTTP: checked before anything is done for a request, in every API alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from extracot_server.engine.base import AnswerFormat, EngineRequestError
from tests.server.key_files import bearer, write
from tests.server.live import Live, serve, user

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
FORMAT = {"type": "json_schema", "name": "x", "schema": SCHEMA}
REPLIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": user(),
        "response_format": {"type": "json_schema", "json_schema": FORMAT},
    },
    "/v1/responses": {"input": "What is 1 + 1?", "text": {"format": FORMAT}},
    "/v1/messages": {
        "messages": user(),
        "max_tokens": 200,
        "tools": [{"name": "x", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
    },
}
COUNTS: dict[str, dict[str, Any]] = {
    "/v1/tokenize": {"messages": user()},
    "/v1/messages/count_tokens": {"messages": user()},
}
OTHERS = {"plain": {}, "one": {"concurrency": 1}}


class Checks:
    """The engine's look at formats: counted, and held or refused on demand."""

    def __init__(self) -> None:
        self.count = 0
        self.refuse = False
        self.hold: threading.Event | None = None
        self.begun = threading.Event()

    def __call__(self, wanted: AnswerFormat) -> None:
        self.count += 1
        self.begun.set()
        if self.hold is not None:
            self.hold.wait(30)
        if self.refuse:
            raise EngineRequestError("wrong", param=wanted.field)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    rates = {f"{kind}-{n}": {"requests_per_minute": n} for n in (1, 2) for kind in "abcdefghijkl"}
    entries = [{"name": name, "key": name, **rest} for name, rest in {**rates, **OTHERS}.items()]
    keys = write(tmp_path_factory.mktemp("keys") / "keys.yaml", *entries)
    with serve(keys=keys) as live:
        yield live


@pytest.fixture
def checks(limited: Live) -> Checks:
    limited.engine._formats._check = found = Checks()
    return found


def send(live: Live, key: str, path: str, body: dict[str, Any]) -> httpx.Response:
    """A request of its own connection, so that several may run at once."""
    body = {"model": "scripted", **body}
    return httpx.post(f"{live.url}{path}", json=body, headers=bearer(key), timeout=60)


def nothing_is_held(live: Live) -> bool:
    limits = live.app.state.extracot.rate_limits
    return not limits.held and not limits.pending


@pytest.mark.parametrize(("key", "path"), list(zip("abc", REPLIES, strict=True)))
def test_past_the_rate_nothing_is_done_for_a_request(
    limited: Live, checks: Checks, key: str, path: str
) -> None:
    before = limited.metric_sum("extracot_rejected_total", reason="rate_limit_exceeded")
    found = [send(limited, f"{key}-1", path, REPLIES[path]) for _ in range(5)]
    assert [reply.status_code for reply in found] == [200, 429, 429, 429, 429]
    assert checks.count == 1
    error = found[-1].json()["error"]
    assert error["type"] == "rate_limit_error" and "1 requests a minute" in error["message"]
    assert 1 <= int(found[-1].headers["retry-after"]) <= 60
    after = limited.metric_sum("extracot_rejected_total", reason="rate_limit_exceeded")
    assert after - before == 4
    limited.wait_for(lambda: nothing_is_held(limited))


@pytest.mark.parametrize(("key", "path"), list(zip("def", REPLIES, strict=True)))
def test_what_is_wrong_does_not_count(limited: Live, checks: Checks, key: str, path: str) -> None:
    checks.refuse = True
    wrong = [send(limited, f"{key}-1", path, REPLIES[path]).status_code for _ in range(3)]
    wrong.append(send(limited, f"{key}-1", path, {**REPLIES[path], "stop": 7}).status_code)
    assert wrong == [400] * 4
    checks.refuse = False
    found = [send(limited, f"{key}-1", path, REPLIES[path]).status_code for _ in range(2)]
    assert found == [200, 429]


@pytest.mark.parametrize(("key", "path"), list(zip("gh", COUNTS, strict=True)))
def test_counting_tokens_counts_for_the_rate(limited: Live, key: str, path: str) -> None:
    wrong = send(limited, f"{key}-2", path, {"messages": 7})
    found = [send(limited, f"{key}-2", path, COUNTS[path]) for _ in range(3)]
    assert wrong.status_code == 400
    assert [reply.status_code for reply in found] == [200, 200, 429]
    assert (
        send(limited, f"{key}-2", "/v1/chat/completions", {"messages": user()}).status_code == 429
    )
    listed = httpx.get(f"{limited.url}/v1/models", headers=bearer(f"{key}-2"))
    assert listed.status_code == 200, "what costs nothing is not counted"


@pytest.mark.parametrize("key", ["i-1", "one"])
def test_what_is_being_checked_holds_its_place_until_it_is_wrong(
    limited: Live, checks: Checks, key: str
) -> None:
    path, body = next(iter(REPLIES.items()))
    checks.hold, checks.refuse = threading.Event(), True
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, limited, key, path, body)
        assert checks.begun.wait(30)
        second = send(limited, key, path, body)
        assert second.status_code == 429 and second.headers["retry-after"] == "1"
        assert send(limited, "plain", path, {"messages": user()}).status_code == 200
        checks.hold.set()
        assert first.result(60).status_code == 400
    checks.refuse = False
    limited.wait_for(lambda: nothing_is_held(limited))
    assert send(limited, key, path, body).status_code == 200


def test_counting_tokens_takes_no_place_of_a_reply(limited: Live, checks: Checks) -> None:
    path, body = next(iter(REPLIES.items()))
    checks.hold = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(send, limited, "one", path, body)
        assert checks.begun.wait(30)
        assert send(limited, "one", "/v1/tokenize", COUNTS["/v1/tokenize"]).status_code == 200
        checks.hold.set()
        assert running.result(60).status_code == 200
    limited.wait_for(lambda: nothing_is_held(limited))


def test_streams_count_once_and_give_their_place_back(limited: Live) -> None:
    body = {"messages": user(), "stream": True}
    found = [send(limited, "j-2", "/v1/chat/completions", body).status_code for _ in range(3)]
    assert found == [200, 200, 429]
    limited.wait_for(lambda: nothing_is_held(limited))
