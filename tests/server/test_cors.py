"""Web pages that call the server from a browser: off unless set, preflights without a key, errors
and streams that a page may read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.server.live import Live, read_chunks, serve, user

APP, OTHER = "https://app.example.com", "https://evil.example.com"
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
SDKS = {
    CHAT: "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout",
    RESPONSES: "authorization,content-type,openai-organization,openai-project,x-stainless-helper",
    MESSAGES: "anthropic-dangerous-direct-browser-access,anthropic-version,anthropic-beta,"
    "content-type,x-api-key,x-stainless-retry-count,x-stainless-timeout",
}
"""The fields that the SDKs of OpenAI and Anthropic send from a browser, as one announces them."""


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a key, for the pages of two origins."""
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    entry = {"name": "a", "key": "sk-right", "requests_per_minute": 2}
    keys.write_text(yaml.safe_dump({"keys": [entry, {"name": "b", "key": "sk-free"}]}))
    with serve(keys=keys, cors_origins=f"{APP}, http://localhost:3000") as live:
        yield live


def preflight(live: Live, path: str, origin: str, **fields: str) -> httpx.Response:
    """What a browser asks before it lets a page send a request with fields of its own."""
    asked = {"access-control-request-method": "POST", **fields}
    return live.http.options(path, headers={"origin": origin, **asked})


def words(response: httpx.Response, name: str) -> set[str]:
    """The words of a list in a field."""
    return {word.strip().lower() for word in response.headers.get(name, "").split(",")}


@pytest.mark.parametrize("path", SDKS)
@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
def test_a_preflight_needs_no_key_and_allows_the_fields_of_sdks(
    keyed: Live, path: str, origin: str
) -> None:
    asked = {"access-control-request-headers": SDKS[path]}
    reply = preflight(keyed, path, origin, **asked)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == origin
    assert "origin" in words(reply, "vary")
    assert set(SDKS[path].split(",")) <= words(reply, "access-control-allow-headers")
    assert {"get", "post"} <= words(reply, "access-control-allow-methods")
    assert "access-control-allow-credentials" not in reply.headers
    private = {"access-control-request-private-network": "true"}
    reply = preflight(keyed, path, origin, **asked, **private)
    assert reply.headers["access-control-allow-private-network"] == "true"


def may_read(reply: httpx.Response, origin: str = APP) -> bool:
    """Whether a browser shows the reply to a page of this origin, with the fields we promise."""
    shown = words(reply, "access-control-expose-headers")
    assert {"x-request-id", "x-extracot-budget", "retry-after"} <= shown
    return reply.headers.get("access-control-allow-origin") in (origin, "*")


BODIES: list[tuple[str, dict[str, Any], int]] = [
    (CHAT, {"messages": user(), "max_tokens": 5}, 200),
    (CHAT, {"messages": user(), "budget": 7}, 400),
    (RESPONSES, {"input": "x", "model": "nope"}, 404),
    (MESSAGES, {"messages": user(), "max_tokens": "x"}, 400),
    ("/v1/nope", {}, 404),
    ("/v1/models", {}, 405),
]


@pytest.mark.parametrize(("path", "body", "status"), BODIES)
def test_a_page_can_read_replies_and_errors(
    keyed: Live, path: str, body: dict[str, Any], status: int
) -> None:
    headers = {"origin": APP, "x-api-key": "sk-free"}
    reply = keyed.http.post(path, json=body, headers=headers)
    assert reply.status_code == status and may_read(reply)
    wrong = keyed.http.post(path, json=body, headers={**headers, "x-api-key": "sk-no"})
    assert wrong.status_code == 401 and may_read(wrong)
    assert wrong.headers["x-request-id"]


def test_a_page_can_read_when_to_come_back_and_streams(keyed: Live) -> None:
    headers = {"origin": APP, "authorization": "Bearer sk-right"}
    body = {"messages": user(), "stream": True, "max_tokens": 20}
    for _ in range(2):
        reply = keyed.http.post(CHAT, json=body, headers=headers)
        assert reply.status_code == 200 and may_read(reply) and read_chunks(reply.text)
    reply = keyed.http.post(CHAT, json=body, headers=headers)
    assert reply.status_code == 429 and may_read(reply) and int(reply.headers["retry-after"]) > 0


def test_other_pages_may_not(keyed: Live) -> None:
    assert "access-control-allow-origin" not in preflight(keyed, CHAT, OTHER).headers
    for origin in (
        OTHER,
        "null",
        APP.upper() + ".evil.com",
        "http://app.example.com",
        APP + ":444",
    ):
        reply = keyed.http.get("/v1/models", headers={"origin": origin, "x-api-key": "sk-free"})
        assert reply.status_code == 200 and not may_read(reply, origin)
    reply = preflight(keyed, CHAT, APP, **{"access-control-request-method": "DELETE"})
    assert "delete" not in words(reply, "access-control-allow-methods")


def test_every_page_may_where_that_is_set() -> None:
    with serve(cors_origins="*") as live:
        for origin in (APP, OTHER, "null"):
            assert preflight(live, CHAT, origin).headers["access-control-allow-origin"] == "*"
            assert may_read(live.http.get("/v1/models", headers={"origin": origin}), origin)
        live.engine.generate = None  # a bug of ours
        reply = live.http.post(CHAT, json={"messages": user()}, headers={"origin": APP})
        assert reply.status_code == 500 and may_read(reply)


def test_without_the_setting_no_page_may(token_server: Live) -> None:
    reply = preflight(token_server, CHAT, APP)
    assert reply.status_code == 405 and reply.headers["allow"] == "POST"
    for response in (reply, token_server.http.get("/v1/models", headers={"origin": APP})):
        assert not any(name.startswith("access-control") for name in response.headers)
