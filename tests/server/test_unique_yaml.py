"""A name that is twice in a YAML file is an error that names file, name and lines."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml

from extracot_server.admission.key_editing import created
from extracot_server.admission.keys import KeysError
from extracot_server.config.setting_values import load_yaml
from extracot_server.config.settings import SettingsError, load_settings
from extracot_server.config.unique_yaml import TwiceError, unique_yaml
from extracot_server.config.upstreams_file import UpstreamsError, read_upstreams
from extracot_server.profiles.profile_file import own_profiles
from tests.server.key_files import read_keys

ONE = "keys:\n  - {name: a, key: sk-1}\n"
GROUPS = "groups:\n  - {name: g, quotas: [{requests: 1, per: day}]}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is there twice"),
        ("x:\n  - {a: 1, 'a': 2}", "'a' is there twice"),
        ("on: 1\nTrue: 2", "'True' is there twice"),
        ("1: a\ntrue: b", "'1' and 'true' are one name"),
        ("=: 1\n'=': 2", "'=' is there twice"),
        ("=: 1\n=: 2", "'=' is there twice"),
        ("? {b: 1, b: 2}\n: 1", "'b' is there twice"),
        (f"{'a' * 99}: 1\n{'a' * 99}: 2", f"'{'a' * 59} is there twice"),
        ('"a\\nb": 1\n"a\\nb": 2', "'a\\nb' is there twice"),
    ],
)
def test_names_in_one_mapping(text: str, told: str) -> None:
    with pytest.raises(TwiceError) as caught:
        unique_yaml(text)
    assert caught.value.told == told


@pytest.mark.parametrize(
    "text",
    [
        "a: {n: 1}\nb: {n: 1}",
        "- {a: 1}\n- {a: 1}",
        "1: a\n'1': b",
        "base: &b {x: 1}\nmore: &m {<<: *b, x: 2}\nlast: {<<: *m, x: 3}",
        "b: &b {x: 1}\nc: &c {y: 1}\nd: {<<: *b, <<: *c}",
        "=: 1",
        "",
        "just text",
    ],
)
def test_everything_else_is_read_as_yaml_is(text: str) -> None:
    assert unique_yaml(text) == yaml.safe_load(text)


def test_days_are_days_whatever_is_done_to_the_usual_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As lm-format-enforcer does it, when it is imported."""
    readers, day = yaml.SafeLoader.yaml_constructors, "tag:yaml.org,2002:timestamp"
    monkeypatch.setitem(readers, day, readers["tag:yaml.org,2002:str"])
    assert yaml.safe_load("2026-11-30") == "2026-11-30"
    assert unique_yaml("2026-11-30") == date(2026, 11, 30)
    with pytest.raises(yaml.YAMLError):
        unique_yaml("a: 2025-13-45")


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.yaml"
    for text, told in (
        ("port: 1\nhost: x\nport: 2\n", f"config file {path}: 'port' is there twice (lines 1 and"),
        ("models:\n  - {name: a, name: b}\n", f"config file {path}: 'name' is there twice (line 2"),
        ("vllm: {a-b: 1, a_b: 2}", "vllm: 'a_b' is there twice (- counts as _)"),
        ("models: [{budget-floor: 1, budget_floor: 1}]", "models[0]: 'budget_floor' is there"),
    ):
        path.write_text(text)
        assert told in refused(["--config", str(path)])
        monkeypatch.setenv("extracot_config", str(path))
        assert told in refused([])
        monkeypatch.delenv("extracot_config")
    assert "'a' is there twice" in refused(["--vllm", '{"a": 1, "a": 2}'])
    assert "vllm: 'a_b' is there twice (- counts as _)" in refused(["--vllm", "a-b=1,c=1,a_b=2"])
    assert "vllm: 'a' is there twice" in refused(["--vllm", "a=1", "--vllm", "a=1"])
    assert "takes EFFORT=BUDGET pairs" in refused(["--reasoning-effort-map", "low=0.2,low=0.3"])
    assert "'name' is there twice" in refused(["--models", '{"name": "a", "name": "b"}'])


@pytest.mark.parametrize("text", ["port: 2026-13-45", "1: 1", "port: !x 1"])
def test_no_file_of_settings_ends_in_a_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    assert str(path) in refused(["--config", str(path)])


UNREADABLE = [
    "!!seq x",
    "!!map x",
    "!!set x",
    "!!omap x",
    "!!int ''",
    "!!int x",
    "!!float ''",
    "!!bool x",
    "!!timestamp x",
    "9" * 5000,
]


@pytest.mark.parametrize("tagged", UNREADABLE, ids=lambda text: text[:25])
@pytest.mark.parametrize("form", ["{}: 1", "b: {}"])
def test_what_is_not_of_its_tag_s_kind_is_not_yaml(tagged: str, form: str) -> None:
    text = f"a: 1\n{form.format(tagged)}\n"
    with pytest.raises(ValueError, match=r"^file is not YAML \(line 2\)$"):
        load_yaml(text, "file")


def test_what_is_too_deep_or_in_a_flag() -> None:
    with pytest.raises(ValueError, match=r"^file is not YAML$"):
        load_yaml("[" * 9999, "file")
    for setting in ("vllm", "models"):
        told = refused([f"--{setting}", "{a: !!seq x, !!seq x: 1}"])
        assert "is not JSON" in told or "is neither NAME=MODEL nor JSON" in told


def refused(arguments: list[str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ONE + "keys:\n  - {name: b, key: sk-2}\n", "'keys' is there twice (lines 1 and 3)"),
        (ONE + GROUPS + GROUPS, "'groups' is there twice (lines 3 and 5)"),
        (
            "keys:\n  - name: a\n    key: sk-1\n    ceiling: 0.2\n    ceiling: 1.0\n",
            "'ceiling' is there twice (lines 4 and 5)",
        ),
    ],
)
def test_keys(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(KeysError) as caught:
        read_keys(path)
    assert str(caught.value) == f"keys file {path}: {told}"
    with pytest.raises(KeysError, match="is there twice"):
        created(text, path, "c", "sk-3")


def test_upstreams_and_profiles(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("upstreams:\n  - url: http://a\n    weight: 1\n    weight: 9\n")
    with pytest.raises(UpstreamsError) as caught:
        read_upstreams(path, remote=True)
    assert str(caught.value) == f"upstreams file {path}: 'weight' is there twice (lines 3 and 4)"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(SettingsError) as told:
        own_profiles(path)
    assert str(told.value) == f"profiles {path}: 'name' is there twice (lines 1 and 2)"
