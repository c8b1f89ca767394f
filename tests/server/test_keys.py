"""API keys: who gets in, what a wrong file says, what is never shown, and the reload."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extracot_server import keys as keys_module
from extracot_server.keys import ANYBODY, API_KEY_NAME, KeysError, KeyStore, read_keys
from extracot_server.settings import Settings, SettingsError, load_settings
from tests.server.live import Live, serve, user
from tests.server.test_process import COMMAND, fails, started

SECRET, OTHER = "sk-aaaaaaaaaaaaaaaa", "sk-bbbbbbbbbbbbbbbb"
CHAT = {"messages": user()}


def write(path: Path, *entries: object, **more: object) -> Path:
    """A keys file with these entries."""
    path.write_text(yaml.safe_dump({"keys": list(entries), **more}))
    return path


def wrong(path: Path) -> str:
    """The one line a file ends in; it must not show a key."""
    with pytest.raises(KeysError) as caught:
        read_keys(path)
    line = str(caught.value)
    assert "\n" not in line and str(path) in line and "sk-" not in line
    return line


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


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {key}"}


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


def test_refusals_are_counted_and_name_nobody(guarded: Live) -> None:
    before = guarded.metric_sum("extracot_rejected_total", reason="invalid_api_key")
    guarded.http.get("/v1/models", headers=bearer("sk-wrong"))
    after = guarded.metric_sum("extracot_rejected_total", reason="invalid_api_key")
    assert after == before + 1
    shown = guarded.http.get("/metrics").text
    for word in ("alice", "bob", "sk-"):
        assert word not in shown


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
    assert KeyStore().find(presented) is ANYBODY


def test_nothing_shows_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET, "models": ["nowhere"]})
    settings = Settings(engine="scripted", keys=path, api_key=OTHER)  # type: ignore[arg-type]
    store = KeyStore(path, settings.single_key())
    shown = [repr(settings), str(settings.model_dump()), repr(store), repr(store.callers)]
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nmae": "x"}, "unknown field nmae; did you mean name?"),
        ({"sk-oops": 1}, "unknown field; allowed"),
        ({"name": "two words"}, "name: must be"),
        ({"name": None}, "name: must be"),
        ({"key": 1234567890}, "key: must be text"),
        ({"key": None}, "give key or sha256"),
        ({"key": ""}, "printable ASCII"),
        ({"key": "sk-é"}, "printable ASCII"),
        ({"key": "sk-a b"}, "printable ASCII"),
        ({"sha256": "ab"}, "sha256: must be 64"),
        ({"sha256": "0" * 64}, "give key or sha256, one of them"),
        ({"default": "fast"}, "default: must be a number in (0, 1]"),
        ({"default": 1.5}, "default: must be a number in (0, 1]"),
        ({"floor": 0}, "floor:"),
        ({"ceiling": "half"}, "ceiling:"),
        ({"floor": 0.8, "ceiling": 0.2}, "floor (0.8) is above ceiling (0.2)"),
        ({"floor": True}, "floor:"),
        ({"reasoning_tokens_ceiling": -1}, "reasoning_tokens_ceiling:"),
        ({"reasoning_tokens_ceiling": 1.5}, "reasoning_tokens_ceiling:"),
        ({"models": "scripted"}, "models:"),
        ({"models": []}, "models:"),
        ({"requests_per_minute": 0}, "requests_per_minute:"),
        ({"requests_per_minute": "10"}, "requests_per_minute:"),
        ({"concurrency": 0}, "concurrency:"),
        ({"priority": 1e6}, "priority:"),
    ],
)
def test_a_wrong_entry_is_one_line_that_names_it(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    good = {"name": "good", "key": OTHER}
    line = wrong(write(tmp_path / "k.yaml", good, {"name": "bad", "key": SECRET, **change}))
    assert "keys[1]" in line
    assert words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold `keys:`"),
        ("keys: []", "must hold `keys:`"),
        ("- name: a\n  key: sk-1\n", "must hold `keys:`"),
        ("sk-1: {name: a}", "must hold `keys:`"),
        ("keys:\n  - name: a\n    key: sk-1\nmore: 1", "must hold `keys:`"),
        ("keys: [sk-1]", "an entry must be"),
        ("keys:\n  - name: a\n    key: 'sk-1\n", "not YAML (line"),
        ("keys: {sk-1: [", "not YAML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(text)
    assert words in wrong(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in wrong(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not text" in wrong(tmp_path / "b.yaml")


def test_names_and_keys_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    one = {"name": "a", "key": SECRET}
    assert "name a is taken" in wrong(write(path, one, {"name": "a", "key": OTHER}))
    assert "b has the key" in wrong(write(path, one, {"name": "b", "key": SECRET}))
    assert "api_key is taken" in wrong(write(path, {"name": "api_key", "key": SECRET}))


def test_the_single_key_comes_from_a_variable_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--engine", "scripted"]
    assert load_settings(flags).single_key() is None
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    assert load_settings([*flags, "--api-key-file", str(path)]).single_key() == SECRET
    monkeypatch.setenv("EXTRACOT_API_KEY", OTHER)
    assert load_settings(flags).single_key() == OTHER
    for arguments, words in (
        (["--api-key-file", str(path)], "not both"),
        (["--playground", "true"], "playground"),
        (["--api-key", SECRET], "EXTRACOT_API_KEY"),
        ([f"--api-key={SECRET}"], "--api-key-file"),
    ):
        with pytest.raises(SettingsError, match=words) as caught:
            load_settings([*flags, *arguments])
        assert "sk-" not in str(caught.value)
    monkeypatch.setenv("EXTRACOT_API_KEY", "")  # as compose files spell "not set"
    assert load_settings(flags).single_key() is None
    path.write_text(" \n")
    with pytest.raises(SettingsError, match="is empty"):
        load_settings([*flags, "--api-key-file", str(path)])
    monkeypatch.setenv("EXTRACOT_API_KEY", "sk two")
    with pytest.raises(SettingsError, match="printable") as caught:
        load_settings(flags)
    assert "two" not in str(caught.value)


def test_a_bad_file_ends_the_start_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET, "cieling": 0.5})
    line = fails(2, "--engine", "scripted", "--port", "0", "--keys", str(path))
    assert "unknown field cieling; did you mean ceiling?" in line


def test_sighup_reads_the_keys_again_and_keeps_them_if_the_file_is_bad(tmp_path: Path) -> None:
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET})
    with started("--keys", str(path)) as (process, url, said):
        assert "1 API key may use /v1" in str(said)
        assert process.stderr is not None

        def status(key: str) -> int:
            return httpx.get(f"{url}/v1/models", headers=bearer(key)).status_code

        def hang_up() -> str:
            assert process.stderr is not None
            process.send_signal(signal.SIGHUP)
            return process.stderr.readline().decode()

        assert (status(SECRET), status(OTHER)) == (200, 401)
        write(path, {"name": "a", "key": OTHER}, {"name": "b", "key": "sk-c"})
        assert "2 API keys may use /v1" in hang_up()
        assert (status(SECRET), status(OTHER)) == (401, 200)
        path.write_text("keys: [")
        line = hang_up()
        assert "not YAML" in line and "the keys in force stay" in line
        assert (status(SECRET), status(OTHER)) == (401, 200)
        path.unlink()
        assert "No such file" in hang_up()
        assert status(OTHER) == 200
        process.terminate()
        assert process.wait(60) == 0


def test_sighup_without_a_file_changes_nothing() -> None:
    with started() as (process, url, said):
        assert "no API key is asked for" in str(said)
        assert process.stderr is not None
        process.send_signal(signal.SIGHUP)
        assert b"no keys file" in process.stderr.readline()
        assert httpx.get(f"{url}/v1/models").status_code == 200


def test_a_default_that_a_model_does_not_have_ends_the_start(tmp_path: Path) -> None:
    auto = {"name": "a", "key": SECRET, "default": "auto"}
    path = write(tmp_path / "k.yaml", {"name": "b", "key": OTHER}, auto)
    line = fails(2, "--engine", "scripted", "--port", "0", "--card", "none", "--keys", str(path))
    assert "key a: default is auto, but scripted has no policy token" in line
    write(path, {**auto, "models": ["elsewhere"]})  # a model of that name could have one
    with serve(keys=path, card="none") as live:
        write(path, auto)
        with pytest.raises(KeysError, match="key a: default is auto"):
            live.app.state.extracot.reload_keys()
        (kept,) = live.app.state.extracot.keys.callers
        assert kept.models == {"elsewhere"}


def test_keys_in_the_wrong_place_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"keys": [{"name": "a", "key": SECRET}]}))
    with pytest.raises(SettingsError) as caught:
        load_settings(["--config", str(path)])
    assert str(caught.value) == "setting keys: must be the path of a YAML file"


def test_a_terminal_that_is_closed_ends_the_server() -> None:
    """SIGHUP means that, too: a server that nobody can see any more must not live on."""
    ours, theirs = os.openpty()
    command = [*COMMAND, "--engine", "scripted", "--port", "0"]
    process = subprocess.Popen(command, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    said = b""
    while b"try: curl" not in said:
        said += os.read(ours, 4096)
    process.send_signal(signal.SIGHUP)
    while b"no keys file" not in said:
        said += os.read(ours, 4096)
    assert process.poll() is None
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0


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


def test_the_readmes_file_is_a_keys_file(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    path = tmp_path / "keys.yaml"
    path.write_text(readme.split("```yaml\n")[1].split("```")[0].replace("sk-…", SECRET))
    first, second = (caller for _, caller in read_keys(path))
    assert (first.name, first.default, first.concurrency) == ("chat-app", 0.4, 32)
    assert (second.models, second.priority) == (frozenset({"smollm2"}), 10)
