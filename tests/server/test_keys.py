"""API keys over HTTP: who gets in, what a key sees, what is never shown."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.admission import keys as keys_module
from extracot_server.admission.keys import ANONYMOUS, API_KEY_NAME, KeyStore
from extracot_server.config.settings import Settings
from tests.server.key_files import CHAT, OTHER, SECRET, bearer, write
from tests.server.live import Live, serve, user


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that wants a key."""
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    path = write(
        tmp_path_factory.mktemp("keys") / "keys.yaml",
        {"name": "alice", "key": SECRET},
        {"name": "bob", "sha256": digest, "models": ["elsewhere"]},
    )
    with serve(keys=path) as live:
        yield live


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("sk-wrong"),
        {"authorization": "Bearer"},
        bearer(SECRET[:-1]),
        bearer(SECRET + "a"),
        bearer(SECRET.upper()),
        {"authorization": SECRET},
        {"authorization": f"Basic {SECRET}"},
        {"x-api-key": "sk-wrong"},
        bearer(hashlib.sha256(OTHER.encode()).hexdigest()),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/scripted"),
        ("GET", "/v1/budget"),
        ("GET", "/v1/whatever"),
        ("GET", "/%76%31/models"),
    ],
)
def test_without_a_known_key_nobody_gets_in(
    guarded: Live, headers: dict[str, str], method: str, path: str
) -> None:
    before = len(guarded.engine.requests)
    response = guarded.http.request(method, path, headers=headers, json=CHAT)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert error["code"] == "invalid_api_key"
    assert error["type"] == "invalid_request_error"
    assert error["param"] is None
    assert "sk-" not in response.text
    assert len(guarded.engine.requests) == before


@pytest.mark.parametrize("headers", [bearer(SECRET), {"x-api-key": SECRET}])
def test_a_known_key_gets_in(guarded: Live, headers: dict[str, str]) -> None:
    response = guarded.http.post("/v1/chat/completions", headers=headers, json=CHAT)
    assert response.status_code == 200
    scheme = {"authorization": f"bearer   {SECRET}"}
    assert guarded.http.get("/v1/models", headers=scheme).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/openapi.json"])
def test_probes_need_no_key(guarded: Live, path: str) -> None:
    assert guarded.http.get(path).status_code == 200


def test_a_key_sees_its_models_only(guarded: Live) -> None:
    mine = guarded.http.get("/v1/models", headers=bearer(SECRET)).json()["data"]
    assert {entry["root"] for entry in mine} == {"scripted"}
    assert guarded.http.get("/v1/models", headers=bearer(OTHER)).json()["data"] == []
    for path in ("/v1/models/scripted", "/v1/models/scripted@0.2", "/v1/budget"):
        response = guarded.http.get(path, headers=bearer(OTHER))
        assert response.status_code == 404
        assert "scripted." not in response.json()["error"]["message"].partition("Served")[2]
    for fields in ({}, {"model": "scripted"}, {"model": "scripted@0.4"}):
        response = guarded.http.post(
            "/v1/chat/completions", headers=bearer(OTHER), json={**CHAT, **fields}
        )
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"
        asked = f"The model `{fields['model']}` does not exist. " if fields else ""
        assert response.json()["error"]["message"] == (
            f"{asked}This key may use none of the models that are served here: its `models` in the "
            "keys file names others."
        )


def test_refusals_are_counted_and_name_nobody(guarded: Live) -> None:
    before = guarded.metric_sum("extracot_rejected_total", reason="invalid_api_key")
    guarded.http.get("/v1/models", headers=bearer("sk-wrong"))
    after = guarded.metric_sum("extracot_rejected_total", reason="invalid_api_key")
    assert after == before + 1
    shown = guarded.http.get("/metrics").text
    assert "sk-" not in shown
    for line in shown.splitlines():  # names are the operator's own; only usage has them
        named = line.startswith("extracot_key_tokens_")
        assert named or not any(name in line for name in ("alice", "bob"))


def test_metrics_can_be_protected() -> None:
    settings = Settings(engine="scripted", api_key=SECRET, protect_metrics=True)  # type: ignore[arg-type]
    with serve(**settings.model_dump(include={"api_key", "protect_metrics"})) as live:
        assert live.http.get("/metrics").status_code == 401
        assert live.http.get("/metrics", headers=bearer(SECRET)).status_code == 200
        assert live.http.get("/health").status_code == 200


def test_an_open_server_takes_any_key(token_server: Live) -> None:
    response = token_server.http.get("/v1/models", headers=bearer("whatever"))
    assert response.status_code == 200


def test_all_entries_are_compared_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [{"name": f"n{i}", "key": f"sk-{i}"} for i in range(5)]
    store = KeyStore(write(tmp_path / "k.yaml", *entries), "sk-single")
    pairs: list[tuple[bytes, bytes]] = []

    def compare(known: bytes, given: bytes) -> bool:
        pairs.append((known, given))
        return known == given

    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    for presented, name in ((b"sk-0", "n0"), (b"sk-4", "n4"), (b"sk-single", API_KEY_NAME)):
        pairs.clear()
        found = store.find(presented)
        assert found is not None and found.name == name
        assert len(pairs) == 6 and {len(part) for pair in pairs for part in pair} == {32}
    pairs.clear()
    assert store.find(b"sk-9") is None and len(pairs) == 6


@given(st.binary(max_size=64))
def test_no_bytes_are_a_key_by_chance(presented: bytes) -> None:
    store = KeyStore(api_key=SECRET)
    assert store.find(presented) is None
    assert store.find(None) is None
    assert KeyStore().find(presented) is ANONYMOUS


def test_nothing_shows_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET, "models": ["nowhere"]})
    settings = Settings(engine="scripted", keys=path, api_key=OTHER)  # type: ignore[arg-type]
    store = KeyStore(path, settings.single_key())
    shown = [repr(settings), str(settings.model_dump()), repr(store), repr(store.principals)]
    with serve(keys=path, api_key=OTHER) as live:
        live.http.post("/v1/chat/completions", headers=bearer(SECRET), json=CHAT)
        live.http.post("/v1/chat/completions", headers=bearer(SECRET + "x"), content=b"{")
        shown += [live.http.get("/metrics").text, live.http.get("/openapi.json").text]
        shown.append(live.http.get("/v1/budget", headers=bearer(SECRET)).text)
    shown += [record.getMessage() for record in caplog.records if record.name != "httpx"]
    assert "nowhere" in caplog.text  # a model that a key names and nobody serves is said
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in (SECRET, OTHER)]
    for secret in (SECRET, OTHER, *digests):
        assert not any(secret in text for text in shown)


def test_a_large_body_without_a_key_gets_its_answer(guarded: Live) -> None:
    body = {"messages": user("word " * 400_000)}
    response = guarded.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 401
    assert guarded.http.get("/health").status_code == 200


def test_the_document_says_where_a_key_goes(guarded: Live) -> None:
    document = guarded.http.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, item in document["paths"].items():
        for operation in item.values():
            assert ("security" in operation) is path.startswith("/v1/")
            assert ("401" in operation["responses"]) is path.startswith("/v1/")
