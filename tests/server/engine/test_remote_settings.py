"""Settings of the remote engine: addresses, keys, and one line for whatever is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_server.cli import main
from extracot_server.config.settings import SettingsError, load_settings

REMOTE = ["--engine", "remote"]
A, B = "http://a:8000", "https://b.example/vllm"


def message(arguments: list[str]) -> str:
    """The one line these flags end in."""
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


def test_upstreams_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings([*REMOTE, "--upstream", A]).upstream == [A]
    assert load_settings([*REMOTE, "--upstream", A, "--upstream", B]).upstream == [A, B]
    assert load_settings([*REMOTE, "--upstream", f"{A},{B}"]).upstream == [A, B]
    path = tmp_path / "s.yaml"
    path.write_text(f"engine: remote\nupstream: [{A}, {B}]\nupstream_api_key: 12345\n")
    settings = load_settings(["--config", str(path)])
    assert settings.upstream == [A, B] and settings.upstream_keys() == ["12345"] * 2
    monkeypatch.setenv("EXTRACOT_UPSTREAM", f"{B}/, {A}/v1/")
    assert load_settings(REMOTE).upstream == [B, A], "an OpenAI base URL will do"


def test_one_key_or_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [*REMOTE, "--upstream", A, "--upstream", B]
    assert load_settings(flags).upstream_keys() == [None, None]
    monkeypatch.setenv("EXTRACOT_UPSTREAM_API_KEY", "key-1")
    settings = load_settings(flags)
    assert settings.upstream_keys() == ["key-1", "key-1"]
    assert "key-1" not in repr(settings) and "key-1" not in settings.model_dump_json()
    monkeypatch.setenv("EXTRACOT_UPSTREAM_API_KEY", "key-1,key-2")
    assert load_settings(flags).upstream_keys() == ["key-1", "key-2"]
    monkeypatch.delenv("EXTRACOT_UPSTREAM_API_KEY")
    path = tmp_path / "keys"
    path.write_text("key-1\nkey-2\n")
    assert load_settings([*flags, "--upstream-api-key-file", str(path)]).upstream_keys() == [
        "key-1",
        "key-2",
    ]


@pytest.mark.parametrize("text", ["", "\n", " , \n,"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    told = f"upstream_api_key_file {path} holds no key"
    flags = ["--upstream-api-key-file", str(path)]
    assert told in message([*REMOTE, "--upstream", A, *flags])
    assert told in message([*REMOTE, "--upstreams", "f", *flags])
    assert told in message(["--models", f"a={A}", *flags])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (REMOTE, ("remote", "--upstream http://host:8000")),
        (["--upstream", A], ("engine remote", "vllm")),
        ([*REMOTE, "--upstream", "ftp://a"], ("upstream", "ftp://a", "http://host:8000")),
        ([*REMOTE, "--upstream", "a:8000"], ("upstream", "a:8000")),
        ([*REMOTE, "--upstream", "http://"], ("upstream",)),
        ([*REMOTE, "--upstream", "http://a:99999"], ("upstream",)),
        ([*REMOTE, "--upstream", "http://a:0"], ("upstream",)),
        ([*REMOTE, "--upstream", "http://a?x=1"], ("upstream",)),
        ([*REMOTE, "--upstream", "http://[a"], ("upstream",)),
        ([*REMOTE, "--upstream", f"{A},{A}/v1"], ("twice",)),
        ([*REMOTE, "--upstream", A, "--upstream-timeout-seconds", "0"], ("upstream_timeout",)),
        ([*REMOTE, "--upstream", A, "--upstream-api-key-file", "/nowhere/k"], ("/nowhere/k",)),
    ],
)
def test_wrong_values_are_one_line(arguments: list[str], words: tuple[str, ...]) -> None:
    text = message(arguments)
    assert all(word in text for word in words), text


# What no library can look up: an empty label, one that is too long, a sign that IDNA does not
# allow (spelled out, and as punycode), numbers that are no IP address.
NO_HOSTS = ["a..b", f"{'a' * 64}.example", "\u2603.example", "xn--a.example", "999.1.1.1"]


@pytest.mark.parametrize("host", NO_HOSTS, ids=range(len(NO_HOSTS)))
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--upstream", "http://{}:8000"], "setting upstream: "),
        (["--models", "m=http://{}:8000"], "setting upstream: "),
        (["--otlp-traces-endpoint", "http://{}:4318"], "setting otlp_traces_endpoint: "),
        (["--usage-store", "redis://{}:6379/0"], "setting usage_store: "),
        (["--usage-store", "postgresql://{}/usage"], "setting usage_store: "),
    ],
    ids=["upstream", "models", "otlp", "redis", "postgresql"],
)
def test_a_host_that_cannot_be_is_told_at_the_start(
    flags: list[str], named: str, host: str
) -> None:
    engine = REMOTE if flags[0] == "--upstream" else []
    assert named in message([*engine, flags[0], flags[1].format(host)])


def test_hosts_of_all_kinds_may_be_named() -> None:
    hosts = [
        "gpu_1",
        "vllm-0.vllm.ns.svc.cluster.local",
        "10.0.0.1",
        "[::1]",
        "b\u00fccher.example",
    ]
    urls = [f"http://{host}:8000" for host in hosts]
    assert load_settings([*REMOTE, "--upstream", ",".join(urls)]).upstream == urls


def test_no_error_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [*REMOTE, "--upstream", A]
    for wrong in ("--upstream-api-key", "--upstream-api-key=hunter2"):
        text = message([*flags, wrong, "hunter2"])
        assert "hunter2" not in text and "EXTRACOT_UPSTREAM_API_KEY" in text
    assert "hunter2" not in message([*REMOTE, "--upstream", "http://me:hunter2@a:1"])
    monkeypatch.setenv("EXTRACOT_UPSTREAM_API_KEY", "hunter2,hunter2")
    assert "hunter2" not in message(flags)
    monkeypatch.setenv("EXTRACOT_UPSTREAM_API_KEY", "hunter2é")
    assert "hunter2" not in message(flags)
    monkeypatch.delenv("EXTRACOT_UPSTREAM_API_KEY")
    path = tmp_path / "s.yaml"
    path.write_text(f"engine: remote\nupstream: {A}\nupstream_api_key: [hunter2]\n")
    assert "hunter2" not in message(["--config", str(path)])


def test_an_upstream_that_is_not_there_ends_the_command_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main([*REMOTE, "--upstream", "http://127.0.0.1:9", "--port", "0"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 1
    assert lines[0] == "extracot-serve: loading what http://127.0.0.1:9 serves …"
    assert lines[-1].startswith("extracot-serve: error: upstream http://127.0.0.1:9 cannot be used")
