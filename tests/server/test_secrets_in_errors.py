"""What is wrong with a setting is told without its value, where that may hold a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_server.cli import main
from extracot_server.config.settings import SettingsError, load_settings
from extracot_server.config.upstreams_file import UpstreamsError, read_upstreams
from extracot_server.ledger.open import open_ledger

KEY = "sk-verysecret"
ENTRY = f'{{"name": "a", "upstream": "http://x", "upstream_api_key": "{KEY}"}}'
WITH_KEY = f"http://u:{KEY}@h:99999"
REMOTE = ["--engine", "remote"]


def refused(arguments: list[str]) -> str:
    """The line that these flags end in, which shows no part of the key."""
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments)
    text = str(caught.value)
    assert "\n" not in text and "sk-" not in text and "verysecret" not in text, text
    return text


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MODELS", f"[{ENTRY}, 5]", "models[1] is neither"),
        ("MODELS", f"[{ENTRY}, {KEY}]", "models[1] is neither"),
        ("MODELS", f"[{ENTRY}", "models is neither NAME=MODEL nor JSON"),
        ("MODELS", f"name: a, upstream_api_key: {KEY}", "models[0] is neither"),
        ("MODELS", f"a={WITH_KEY}", "models[0] (a): setting upstream: an address"),
        ("MODELS", "a=http://u:sk-very,secret@h", "models[1] is neither"),
        ("MODELS", f"[{{name: a, vllm: 'hf_token={KEY},oops'}}]", "number 2 is none"),
        ("VLLM", f"hf_token={KEY},oops", "setting vllm: vllm takes KEY=VALUE pairs, and number 2"),
        ("VLLM", f"hf_token:{KEY}", "takes KEY=VALUE pairs"),
        ("VLLM", "hf_token=sk-very,secret", "takes KEY=VALUE pairs"),
        ("VLLM", f"{{hf_token: '{KEY}", "vllm is not JSON"),
        ("VLLM", f"hf_token='{KEY}", "vllm, pair 1 is not JSON"),
        ("OTLP_TRACES_ENDPOINT", f"https://u:{KEY}@h:99999", "http://collector:4318"),
        ("CORS_ORIGINS", f"https://u:{KEY}@h/x", "is not an origin"),
        ("CORS_ORIGINS", "https://u:sk-very,secret@h", "is not an origin"),
        ("USAGE_STORE", f"redis:/u:{KEY}@h", "a URL begins like redis://"),
        ("USAGE_STORE", f"redis:u:{KEY}@h.example", "a URL begins like redis://"),
        ("USAGE_STORE", f"reddis:/u:{KEY}@h", "a URL begins like redis://"),
        ("USAGE_STORE", f"u:{KEY}@h.example/0", "a URL begins like redis://"),
        ("USAGE_STORE", f"host=h password={KEY}", "a path with a /"),
        ("USAGE_STORE", f"redis://{KEY}/x@h/0", "%-encoded"),
        ("USAGE_STORE", "redis://u:12?sk-verysecret@127.0.0.1:8289/0", "%-encoded"),
        ("USAGE_STORE", "redis://u:12#sk-verysecret@127.0.0.1:8289/0", "%-encoded"),
        ("USAGE_STORE", "postgresql://u:12?a=sk-verysecret@h/db", "%-encoded"),
        ("UPSTREAMS", f"http://u:{KEY}@x", "must be the path of a YAML file"),
        ("UPSTREAMS", f"http:/u:{KEY}@x", "must be the path of a YAML file"),
        ("UPSTREAMS", f"u:{KEY}@x", "must be the path of a YAML file"),
        ("UPSTREAMS", f"'http://u:{KEY}@x'", "must be the path of a YAML file"),
        ("UPSTREAMS", f"http://h?key={KEY}", "must be the path of a YAML file"),
        ("KEYS", KEY, "must be the path of a YAML file"),
        ("KEYS", f' "{KEY}"', "must be the path of a YAML file"),
        ("KEYS", f"http://u:{KEY}@x", "must be the path of a YAML file"),
        ("API_KEY_FILE", KEY, "is like a key"),
        ("UPSTREAM_API_KEY_FILE", KEY, "is like a key"),
        ("REASONING_KEY_FILE", KEY, "is like a key"),
        ("CONFIG", f"http://u:{KEY}@x", "is like a URL"),
        ("MODEL", f"https://u:{KEY}@h/m", "is like a URL"),
        ("MODEL", f"u:{KEY}@h/m", "is like a URL"),
        ("TOKENIZER", f"https:/u:{KEY}@h/m", "is like a URL"),
        ("CARD", f"'https://u:{KEY}@h/card.json'", "is like a URL"),
        ("PROFILES", f"s3://u:{KEY}@h/p.yaml", "is like a URL"),
        ("BATCH_FOLDER", f"https://u:{KEY}@h/files", "is like a URL"),
        ("LORA", f"a=https://u:{KEY}@h/a", "is like a URL"),
        ("LORA", "a=./a,https://u:sk-very,secret@h", "number 2 is none"),
        ("MODELS", f"a=ftp://u:{KEY}@h/m", "models[0] (a): setting model: must be a path"),
    ],
)
def test_a_variable(name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"EXTRACOT_{name}", value)
    text = refused([])
    assert words in text and (f"setting {name.lower()}" in text or "models[0]" in text), text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "org/model:8b"),
        ("model", "hf.co/org/model:Q4_K_M"),
        ("model", "name@sha256:0123"),
        ("card", "./a:b@c/card.json"),
        ("tokenizer", "/models/at@home"),
    ],
)
def test_names_with_colons_are_no_urls(name: str, value: str) -> None:
    settings = load_settings([f"--{name}", value, "--engine", "remote", "--upstream", "http://h"])
    assert getattr(settings.served_models()[0], name) == value


def test_a_key_in_place_of_a_file_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXTRACOT_KEYS", KEY)
    assert main(["keys", "list"]) == 1
    told = capsys.readouterr().err
    assert "the keys file must be the path of a file" in told and "sk-" not in told


@pytest.mark.parametrize(
    "path", ["keys.yaml", "a@b/keys.yaml", "/a:b@c/keys.yaml", "./sk-live.yaml", "~/a:b@c", "a:b"]
)
def test_what_is_a_path_is_taken(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYS", "UPSTREAMS"):
        monkeypatch.setenv(f"EXTRACOT_{name}", path)
    found = load_settings(REMOTE)
    assert found.keys == found.upstreams == Path(path)
    several = ["--models", f'{{"name": "a", "engine": "remote", "upstreams": "{path}"}}']
    monkeypatch.delenv("EXTRACOT_UPSTREAMS")
    assert load_settings(several).served_models()[0].upstreams == Path(path)


def test_an_entry_s_upstreams() -> None:
    entry = f'{{"name": "a", "engine": "remote", "upstreams": "http://u:{KEY}@x"}}'
    assert "models[0] (a): setting upstreams: must be the path" in refused(["--models", entry])


@pytest.mark.parametrize(
    "value", [WITH_KEY, "http://u:sk-very,secret@h", f"http://h?key={KEY}", f"u:{KEY}@h:99999"]
)
def test_an_address(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTRACOT_UPSTREAM", value)
    assert "setting upstream: " in refused(REMOTE)
    monkeypatch.delenv("EXTRACOT_UPSTREAM")
    if value.startswith("http"):  # else it is the name of a model
        assert "http://host:8000" in refused(["--models", f"a={value.partition(',')[0]}@h"])
    path = tmp_path / "upstreams.yaml"
    path.write_text(f"upstreams: [{{url: '{value}'}}]\n")
    with pytest.raises(UpstreamsError) as caught:
        read_upstreams(path, remote=True)
    assert "upstreams[0]: url: " in str(caught.value) and "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"models: [{ENTRY}, 5]",
        f"models: [{ENTRY}",
        f"models: {ENTRY}",
        f"api_key: *{KEY}",
        f"api_key: !{KEY}",
        f"keys: [{{name: a, key: {KEY}}}]",
        f"model: {{api_key: {KEY}}}",
        f"port: [{KEY}]",
        f"vllm: [hf_token={KEY}, oops]",
        f"upstream: {WITH_KEY}",
    ],
)
def test_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(f"engine: remote\n{text}\n")
    refused(["--config", str(path)])


def test_a_plain_value_of_another_setting_is_still_told() -> None:
    with pytest.raises(SettingsError, match=r"setting port: .* \(got 'x'\)"):
        load_settings(["--port", "x"])


def test_what_follows_no_flag() -> None:
    assert refused(["--upstream", "http://a", f"http://u:{KEY}@b"]) == (
        "b follows no flag; see --help"
    )


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://h/db?user=a&password={KEY}",
        f"postgresql://h/db?user=a&sslpassword={KEY}",
        f"postgresql://h/db?user=a&p%61ssword={KEY}",
        f"redis://h/0?password={KEY}",
        f"redis://:{KEY}@h/0",
    ],
)
def test_a_url_with_a_password_is_no_flag(url: str) -> None:
    for flags in (["--usage-store", url], [f"--usage-store={url}"]):
        assert "EXTRACOT_USAGE_STORE" in refused(flags)
    fine = "postgresql://h/passwords?sslmode=require&passfile=/a"
    assert load_settings(["--usage-store", fine]).usage_store.get_secret_value() == fine


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:sk-%zz@127.0.0.1:1/db",
        "postgresql://u:sk-%00@127.0.0.1:1/db",
        f"postgresql://[::1]x/db?password={KEY}",
        f"postgresql://127.0.0.1:1/db?password=1&{KEY}",
        f"redis://127.0.0.1:1/0?password={KEY}&socket_timeout=abc",
    ],
)
def test_a_store_s_own_errors(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTRACOT_USAGE_STORE", url)
    with pytest.raises(SettingsError, match="setting usage_store: ") as caught:
        open_ledger(load_settings(["--engine", "scripted"]), lasting=True)
    assert "sk-" not in str(caught.value)
