"""Settings: flag over variable over file over default, and one line for whatever is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_server.config.settings import Settings, SettingsError, load_settings
from extracot_server.config.unused import unused_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file."""
    path = tmp_path / "settings.yaml"
    path.write_text("port: 1111\ngrace_seconds: 7\nvllm:\n  max_num_seqs: 4\n")
    return path


def message(arguments: list[str]) -> str:
    """The one line these flags end in."""
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments)
    text = str(caught.value)
    assert "\n" not in text and text
    return text


def test_defaults() -> None:
    settings = load_settings([])
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.model, settings.engine, settings.default_budget) == (
        "small",
        "vllm",
        "native",
    )


def test_flag_beats_variable_beats_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--config", str(file)]
    assert load_settings(arguments).port == 1111
    monkeypatch.setenv("EXTRACOT_PORT", "2222")
    assert load_settings(arguments).port == 2222
    assert load_settings([*arguments, "--port", "3333"]).port == 3333
    assert load_settings([*arguments, "--port", "3333"]).grace_seconds == 7
    monkeypatch.setenv("EXTRACOT_CONFIG", str(file))
    monkeypatch.delenv("EXTRACOT_PORT")
    assert load_settings([]).port == 1111


def test_budgets_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(["--default-budget", "0.4"]).default_budget == 0.4
    assert load_settings(["--default-budget", "auto"]).default_budget == "auto"
    monkeypatch.setenv("EXTRACOT_DEFAULT_BUDGET", "0.6")
    assert load_settings([]).default_budget == 0.6
    path = tmp_path / "s.yaml"
    path.write_text("default_budget: 0.8\n")
    monkeypatch.delenv("EXTRACOT_DEFAULT_BUDGET")
    assert load_settings(["--config", str(path)]).default_budget == 0.8


def test_engine_arguments_from_everywhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--vllm", "tensor_parallel_size=2", "--vllm", "dtype=half"]
    assert load_settings(flags).vllm == {"tensor_parallel_size": 2, "dtype": "half"}
    assert load_settings(["--vllm", '{"max-num-seqs": 3}']).vllm == {"max_num_seqs": 3}
    assert load_settings(["--config", str(file)]).vllm == {"max_num_seqs": 4}
    monkeypatch.setenv("EXTRACOT_VLLM", "quantization=fp8,enforce_eager=true")
    assert load_settings([]).vllm == {"quantization": "fp8", "enforce_eager": True}


def test_origins_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings([]).cors_origins == []
    flags = ["--cors-origins", "https://A.example:443/", "--cors-origins", "http://b.example:3000"]
    both = ["https://a.example", "http://b.example:3000"]
    assert load_settings(flags).cors_origins == both
    path = tmp_path / "s.yaml"
    path.write_text(f"cors_origins: {both}\n")
    assert load_settings(["--config", str(path)]).cors_origins == both
    monkeypatch.setenv("EXTRACOT_CORS_ORIGINS", ", ".join(both))
    assert load_settings([]).cors_origins == both
    monkeypatch.setenv("EXTRACOT_CORS_ORIGINS", "*")
    assert load_settings([]).cors_origins == ["*"]
    app = load_settings(["--cors-origins", "tauri://localhost,http://[::1]:3000"])
    assert app.cors_origins == ["tauri://localhost", "http://[::1]:3000"]


def test_efforts_are_replaced_one_by_one() -> None:
    efforts = load_settings(["--reasoning-effort-map", "low=0.25"]).reasoning_effort_map
    assert (efforts["low"], efforts["high"], efforts["max"]) == (0.25, 0.8, "native")
    assert "slow" in message(["--reasoning-effort-map", "slow=0.25"])
    assert "reasoning_effort_map" in message(["--reasoning-effort-map", "low=7"])
    for wrong in ("foo", "low", "low=7", "low=fast", "low=[1]", "low=[", "{", '{"low": 0.3}x'):
        told = message(["--reasoning-effort-map", wrong])
        assert "takes EFFORT=BUDGET pairs such as low=0.3,high=auto" in told, told
    several = load_settings(["--reasoning-effort-map", "low=0.3,high=auto"]).reasoning_effort_map
    assert (several["low"], several["high"], several["medium"]) == (0.3, "auto", 0.6)
    assert "is not JSON" in message(["--vllm", "{"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "x"], ("port", "integer")),
        (["--port", "70000"], ("port",)),
        (["--engine", "magic"], ("engine", "vllm", "scripted")),
        (["--default-budget", "2"], ("default_budget", "auto")),
        (["--default-budget", "fast"], ("default_budget", "native")),
        (["--budget-floor", "0"], ("budget_floor",)),
        (["--budget-floor", "0.8", "--budget-ceiling", "0.2"], ("budget_floor", "budget_ceiling")),
        (["--think-start", "<t>", "--think-end", "<t>"], ("think_start", "differ")),
        (["--vllm", "nonsense"], ("vllm", "KEY=VALUE")),
        (["--keep-alive-seconds", "0"], ("keep_alive_seconds", "greater than or equal to 1")),
        (["--keep-alive-seconds", "inf"], ("keep_alive_seconds", "86400")),
        (["--cors-origins", "app.example.com"], ("cors_origins", "https://app.example.com")),
        (["--cors-origins", "https://a.example/page"], ("cors_origins", "is not an origin")),
        (["--cors-origins", "https://*.a.example"], ("cors_origins", "is not an origin")),
        (["--cors-origins", "https://a@b.example"], ("cors_origins", "is not an origin")),
        (["--cors-origins", "https://a.example,*"], ("cors_origins", "alone")),
        (["--config", "/nowhere/at/all.yaml"], ("/nowhere/at/all.yaml", "No such file")),
    ],
)
def test_wrong_values_are_one_line(arguments: list[str], words: tuple[str, ...]) -> None:
    text = message(arguments)
    assert all(word in text for word in words), text


def test_unknown_variables_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("prot: 1\n")
    assert "did you mean port" in message(["--config", str(path)])
    monkeypatch.setenv("EXTRACOT_BUDGET_CIELING", "0.5")
    assert "EXTRACOT_BUDGET_CEILING" in message([])
    monkeypatch.delenv("EXTRACOT_BUDGET_CIELING")
    monkeypatch.setenv("EXTRACOT_BASE_URL", "http://x")  # the client's
    assert load_settings([]).port == 8000


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("EXTRACOT_PORT__FOO", "give the whole setting in EXTRACOT_PORT"),
        ("EXTRACOT_KEYS__FOO", "give the whole setting in EXTRACOT_KEYS"),
        ("EXTRACOT_VLLM__MAX_MODEL_LEN", "give the whole setting in EXTRACOT_VLLM"),
        ("EXTRACOT_PROT__FOO", "unknown variable EXTRACOT_PROT__FOO"),
        ("extracot_prot", "unknown variable extracot_prot; did you mean EXTRACOT_PORT?"),
        ("Extracot_Prot", "did you mean EXTRACOT_PORT?"),
    ],
)
def test_no_variable_is_ignored(variable: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "5")
    assert words in message([])


def test_capitals_of_variables_make_no_difference(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("extracot_config", str(file))
    monkeypatch.setenv("extracot_base_url", "http://x")  # the client's
    assert load_settings([]).port == 1111
    monkeypatch.setenv("extracot_port", "77")
    assert load_settings([]).port == 77


TIMES = [name for name in Settings.model_fields if name.endswith("_seconds")]


@pytest.mark.parametrize("name", [*TIMES, "join_milliseconds", "batch_keep_days"])
def test_times_have_bounds(name: str) -> None:
    """Sockets and timers take no more, and nothing ever waits for ``inf``."""
    flag = f"--{name.replace('_', '-')}"
    for wrong in ("inf", "1e300", "nan", "2600000"):
        assert message([flag, wrong]).startswith(f"setting {name}: input should be ")
    assert "less than or equal to " in message([flag, "inf"])
    assert getattr(load_settings([flag, "600"]), name) == 600


@pytest.mark.parametrize("value", ["of", "Off", "Memory", "disk", ":memory:", " ", "of.", ".of"])
def test_a_word_is_no_file_for_usage(value: str) -> None:
    told = message(["--usage-store", value])
    assert "must be off, memory, a URL like redis://host:6379/0, or a file" in told


STORES = ("off", "memory", "usage.sqlite", "./usage", "/a/b", "~/u")


@pytest.mark.parametrize(
    "value", [*STORES, "/a:b@c.sqlite", "./a:b@c", "../a:b@c", "~/a:b@c", "/a://b"]
)
def test_stores_of_usage(value: str) -> None:
    assert load_settings(["--usage-store", value]).usage_store.get_secret_value() == value


def test_what_does_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unused(*flags: str) -> str:
        return "; ".join(unused_settings(load_settings([*flags])))

    assert unused() == unused("--engine", "scripted") == ""
    assert "holdout_at_ceiling does nothing" in unused("--holdout-at-ceiling", "true")
    assert unused("--holdout-at-ceiling", "true", "--holdout-fraction", "0.1") == ""
    scripted = ["--engine", "scripted"]
    assert unused(*scripted, "--tokenizer", "x") == (
        "tokenizer is for engine remote or openai and is not used"
    )
    assert unused(*scripted, "--vllm", "a=1") == "vllm is for engine vllm and is not used"
    assert "upstream_api_key_file is for" in unused(*scripted, "--upstream-api-key-file", "x")
    assert unused("--vllm", "a=1", "--models", "a=x,b=http://y") == "", "one of them uses it"
    assert "protect_metrics does nothing" in unused("--protect-metrics", "true")
    monkeypatch.setenv("EXTRACOT_API_KEY", "sk-1")
    assert unused("--protect-metrics", "true") == ""


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just text", "\x00"])
def test_bad_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert str(path) in message(["--config", str(path)])


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_settings(["--config", str(path)]).port == 8000


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files write it: ``EXTRACOT_BUDGET_FLOOR=``."""
    for name in Settings.model_fields:
        monkeypatch.setenv(f"EXTRACOT_{name.upper()}", "")
    assert load_settings([]).model_dump() == Settings().model_dump()
