"""``models``, ``lora`` and ``workers`` in settings: what is shared, and what is refused how."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_server.config.settings import Settings, SettingsError, load_settings

FILE = """
default_budget: 0.6
reasoning_effort_map: {low: 0.3}
vllm: {max_num_seqs: 4, enforce_eager: true}
models:
  - name: small
    model: smollm2
    vllm: {max-num-seqs: 8}
    lora: {polite: /adapters/polite}
  - name: big
    upstream: ["http://gpu-1:8000", "http://gpu-2:8000/v1"]
    tokenizer: /models/big
    card: /models/big/budget_card.json
    default_budget: native
    budget_floor: 0.2
    budget_ceiling: 0.8
    reasoning_effort_map: {low: 0.25}
    max_running: 64
"""


def written(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    return ["--config", str(path)]


def message(arguments: list[str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_entry_has_its_own_settings_and_the_servers_for_the_rest(tmp_path: Path) -> None:
    small, big = load_settings(written(tmp_path, FILE)).served_models()
    assert (small.served_model_name, small.engine, small.model) == ("small", "vllm", "smollm2")
    assert small.vllm == {"max_num_seqs": 8, "enforce_eager": True}
    assert small.lora == {"polite": "/adapters/polite"}
    assert (small.default_budget, small.budget_floor, small.max_running) == (0.6, None, None)
    assert small.reasoning_effort_map["low"] == 0.3
    assert big.engine == "remote", "an entry with an upstream needs no word for it"
    assert big.upstream == ["http://gpu-1:8000", "http://gpu-2:8000"]
    assert (big.default_budget, big.budget_floor, big.budget_ceiling) == ("native", 0.2, 0.8)
    assert (big.reasoning_effort_map["low"], big.reasoning_effort_map["high"]) == (0.25, 0.8)
    assert (big.max_running, big.card) == (64, "/models/big/budget_card.json")


def test_one_model_is_the_settings_themselves() -> None:
    settings = Settings(engine="scripted", budget_floor=0.4)
    assert settings.served_models() == [settings]


def test_models_as_flags_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--models", "a=smollm2", "--models", "b=http://gpu:8000", "--default-budget", "0.4"]
    a, b = load_settings(flags).served_models()
    assert (a.model, a.engine, b.upstream, b.engine) == (
        *("smollm2", "vllm"),
        *(["http://gpu:8000"], "remote"),
    )
    assert a.default_budget == b.default_budget == 0.4
    mixed = ["--models", "a=smollm2", "--models", '{"name": "b", "engine": "scripted"}']
    assert [m.engine for m in load_settings(mixed).served_models()] == ["vllm", "scripted"]
    monkeypatch.setenv("EXTRACOT_MODELS", '[{"name": "x", "vllm": {"dtype": "half"}}]')
    assert load_settings([]).served_models()[0].vllm == {"dtype": "half"}
    monkeypatch.setenv("EXTRACOT_ENGINE", "scripted")
    monkeypatch.setenv("EXTRACOT_MODELS", "x=one,y=two")
    assert [m.engine for m in load_settings([]).served_models()] == ["scripted", "scripted"]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("[{name: a}, {name: a}]", ("two models are named a",)),
        ("[{name: a, lora: {b: /x}}, {name: b}]", ("two models are named b",)),
        (
            "[{name: a, upstreams: [x]}]",
            ("models[0] (a)", "upstreams", "YAML file", "list in upstream"),
        ),
        ("[{name: a, upstreem: [x]}]", ("models[0] (a)", "upstreem", "did you mean upstream?")),
        ("[{name: a, profiles: [x]}]", ("models[0] (a)", "profiles", "must be a path")),
        ("[{name: a, port: 1}]", ("models[0] (a)", "unknown setting port")),
        ("[{name: ok}, {name: a@0.4}]", ("models[1] (a@0.4)", "without @")),
        ("[{name: ''}]", ("models[0]", "1 to 128")),
        ("[{name: a, served_model_name: b}]", ("models[0]", "not both")),
        ("[{name: a, engine: magic}]", ("models[0] (a)", "engine", "remote")),
        ("[{name: a, engine: remote}]", ("models[0] (a)", "needs an upstream")),
        ("[{name: a, upstream: 'x'}]", ("models[0] (a)", "upstream", "address")),
        ("[{name: a, engine: vllm, upstream: 'http://x'}]", ("models[0] (a)", "engine remote")),
        ("[{name: a, upstream: 'http://x', lora: {b: /x}}]", ("models[0] (a)", "lora")),
        ("[{name: a, budget_floor: 0.9, budget_ceiling: 0.1}]", ("models[0] (a)", "budget_floor")),
        ("[{name: a, default_budget: 2}]", ("models[0] (a)", "default_budget", "auto")),
        ("[{name: a, vllm: nonsense}]", ("models[0] (a)", "vllm", "KEY=VALUE")),
        ("{name: a}", ("models", "list")),
        ("[nonsense]", ("setting models", "NAME=MODEL", "models[0] is neither")),
        ("7", ("models", "list")),
    ],
)
def test_wrong_entries_are_one_line(tmp_path: Path, entries: str, words: tuple[str, ...]) -> None:
    text = message(written(tmp_path, f"models: {entries}\n"))
    assert all(word in text for word in words), text


def test_what_the_whole_server_says_must_fit_every_entry(tmp_path: Path) -> None:
    text = message(written(tmp_path, "budget_floor: 0.6\nmodels: [{name: a, budget_ceiling: 0.4}]"))
    assert "models[0] (a)" in text and "0.6" in text and "0.4" in text
    for own in ("model: x", "card: none", "tokenizer: x", "served_model_name: x", "lora: {b: /x}"):
        name = own.partition(":")[0]
        assert f"with models, {name}" in message(written(tmp_path, f"{own}\nmodels: [{{name: a}}]"))


def test_adapters_as_flags() -> None:
    flags = ["--lora", "a=/one", "--lora", "b=/two"]
    assert load_settings(flags).lora == {"a": "/one", "b": "/two"}
    for wrong in ("a", "=x", "a=", "a@1=/x"):
        assert "lora" in message(["--lora", wrong])
    assert "two adapters are named a" in message(["--lora", "a=/one", "--lora", "a=/two"])
    remote = ["--engine", "remote", "--upstream", "http://x", "--lora", "a=/one"]
    assert "entry of models" in message(remote)


def test_workers_are_for_engines_that_hold_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = ["--engine", "remote", "--upstream", "http://x"]
    assert load_settings([*remote, "--workers", "4"]).workers == 4
    assert "vLLM of its own" in message(["--workers", "2"])
    assert "vLLM of its own" in message(["--workers", "2", "--models", "a=http://x,b=smollm2"])
    assert "workers" in message([*remote, "--workers", "0"])
    assert "playground" in message([*remote, "--workers", "2", "--playground", "true"])
