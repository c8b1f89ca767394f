"""The upstreams file: what it may say, one line for whatever is wrong, and what is new in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_server.config.settings import SettingsError, load_settings
from extracot_server.config.upstreams_file import (
    CanarySettings,
    UpstreamsError,
    UpstreamSettings,
    UpstreamsFile,
    difference,
    read_upstreams,
)

TWO = "upstreams:\n  - url: http://a:1\n  - url: http://b:2\n"


def read(tmp_path: Path, text: str, *, remote: bool = True) -> UpstreamsFile:
    path = tmp_path / "upstreams.yaml"
    path.write_text(text)
    return read_upstreams(path, remote=remote, api_key="shared")


def test_all_that_it_may_say(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("own\n")
    found = read(
        tmp_path,
        """
upstreams:
  - url: http://gpu-1:8000/v1
  - {url: "https://gpu-2/vllm/", name: two, weight: 3, max_running: 64, api_key_file: key}
  - {url: "http://[::1]:8000", drain: true}
canary: {share: 0.05, upstreams: [two], stick: request, name: fp8}
""",
    )
    assert found.upstreams == (
        UpstreamSettings("http://gpu-1:8000", "gpu-1:8000", api_key="shared"),
        UpstreamSettings("https://gpu-2/vllm", "two", 3, max_running=64, api_key="own"),
        UpstreamSettings("http://[::1]:8000", "[::1]:8000", drain=True, api_key="shared"),
    )
    assert found.canary == CanarySettings(0.05, "request", "fp8", ("two",))
    assert "own" not in repr(found) and "shared" not in repr(found)


def test_another_engine_has_a_canary_only(tmp_path: Path) -> None:
    found = read(tmp_path, "canary: {share: 1, card: new.json}", remote=False)
    assert found.canary == CanarySettings(1, card=str(tmp_path / "new.json"))
    with pytest.raises(UpstreamsError, match="upstreams are for engines remote and openai"):
        read(tmp_path, TWO, remote=False)
    with pytest.raises(UpstreamsError, match=r"canary\.upstreams is for engines remote and openai"):
        read(tmp_path, "canary: {share: 1, upstreams: [a]}", remote=False)


@pytest.mark.parametrize("text", ["", "# canary: {share: 1, model: next}\n", "canary:\n", "{}"])
def test_one_whose_canary_was_taken_out_says_nothing(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text, remote=False)
    assert (found.upstreams, found.canary) == ((), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML (line 1)"),
        ("upstreams: 2026-13-45", "is not YAML"),
        ("", "must hold `upstreams:`"),
        ("- x", "must hold `upstreams:`"),
        ("upstreams: []", "upstreams: list should have at least 1"),
        ("canary: {share: 0.1, model: x}", "must hold `upstreams:` and a list of entries"),
        ("upstreams: [x]", "upstreams[0]: must be `name: value` lines"),
        ("upstreams: [{}]", "upstreams[0]: url: field required"),
        ("upstreams: [{url: ftp://a}]", "upstreams[0]: url: 'ftp://a' is not an address like"),
        ("upstreams: [{url: http://u:p@a}]", "must not hold a password"),
        ('upstreams: [{url: "http://a\\u200b:1"}]', "'http://a\\u200b:1' is not an address like"),
        (
            "upstreams: [{url: http://xn--a}]",
            "url: 'http://xn--a' has a host that is no name and no",
        ),
        ("upstreams: [{url: http://a, weight: 0}]", "weight: must be a whole number from 1 to"),
        ("upstreams: [{url: http://a, weight: 1.5}]", "weight: must be a whole number from 1"),
        ("upstreams: [{url: http://a, wieght: 2}]", "unknown field wieght; did you mean weight?"),
        ("upstreams: [{url: http://a, max_running: 0}]", "max_running: input should be"),
        ("upstreams: [{url: http://a, name: 'a b'}]", "name: must be 1 to 128 letters"),
        ("upstreams: [{url: http://a, api_key_file: no}]", "api_key_file"),
        ("upstreams: [{url: http://a, drain: true}]", "all upstreams are drained"),
        ("upstreams: [{url: http://a}, {url: http://a/}]", "the url http://a is there twice"),
        ("upstreams: [{url: http://GPU:80/v1}, {url: http://gpu}]", "http://gpu is there twice"),
        ("upstreams: [{url: http://a, name: b}, {url: http://b}]", "the name b is there twice"),
        (TWO + "canary: {share: 0.1}", "canary: give upstreams, model or card, one of them"),
        (TWO + "canary: {share: 0, model: m}", "canary: share: must be a number in (0, 1]"),
        (TWO + "canary: {share: 2, model: m}", "canary: share: must be a number in (0, 1]"),
        (TWO + "canary: {share: .nan, model: m}", "canary: share: must be a number in (0, 1]"),
        (TWO + "canary: {share: 0.1, model: m, stick: user}", "canary: stick: must be convers"),
        (TWO + "canary: {share: 0.1, upstreams: [c]}", "there is no c; there are a:1, b:2"),
        (TWO + "canary: {share: 0.1, upstreams: ['a:1', 'b:2']}", "all upstreams are drained or"),
        (TWO + "canaries: {}", "unknown field canaries; did you mean canary?"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UpstreamsError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert words in line and "\n" not in line and "shared" not in line


def test_a_canary_that_is_drained_is_no_canary(tmp_path: Path) -> None:
    text = "upstreams: [{url: http://a}, {url: http://b, drain: true}]\n"
    with pytest.raises(UpstreamsError, match="all upstreams of the canary are drained"):
        read(tmp_path, text + "canary: {share: 0.5, upstreams: [b]}")


def test_what_is_new_in_words(tmp_path: Path) -> None:
    before = read(tmp_path, TWO)
    after = read(
        tmp_path,
        "upstreams: [{url: http://b:2, weight: 2, drain: true}, {url: http://c:3, name: new}]\n"
        "canary: {share: 0.05, model: next}",
    )
    assert difference(before, after) == (
        "added new; removed a:1; changed b:2 (weight 1 to 2, drain False to True); "
        "canary: 5.00% to model next, by conversation"
    )
    named = UpstreamsFile(canary=CanarySettings(0.5, "key", "fp8", card="c.json"))
    assert difference(UpstreamsFile(), named) == "canary fp8: 50.00% to card c.json, by key"
    assert difference(after, after) == "nothing in it has changed"
    was, now = (
        UpstreamsFile((UpstreamSettings(url, name="a"),)) for url in ("http://b", "http://c")
    )
    assert difference(was, now) == "moved a (http://b to http://c)", "not added and removed"
    assert "no canary" in difference(after, before)
    other_key = UpstreamsFile((UpstreamSettings("http://a:1", api_key="x"),))
    assert difference(UpstreamsFile((UpstreamSettings("http://a:1"),)), other_key) == (
        "changed a:1 (another API key)"
    )


def test_a_key_file_without_a_key_does_not_replace_the_common_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    with pytest.raises(UpstreamsError) as caught:
        read(tmp_path, "upstreams: [{url: http://a, api_key_file: key}]")
    told = f"http://a: api_key_file {tmp_path / 'key'} holds no key"
    assert str(caught.value) == f"upstreams file {tmp_path / 'upstreams.yaml'}: {told}"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--engine", "remote", "--upstreams", "f", "--upstream", "http://a"], "not both"),
        (["--upstreams", "f", "--models", "a=b,c=d"], "upstreams goes into their entries"),
    ],
)
def test_settings_that_do_not_go_together(flags: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(flags)


def test_one_key_for_all_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--engine", "remote", "--upstreams", "f"]
    assert load_settings(flags).upstreams == Path("f")
    monkeypatch.setenv("EXTRACOT_UPSTREAM_API_KEY", "a,b")
    with pytest.raises(SettingsError, match="one key for all in it"):
        load_settings(flags)
