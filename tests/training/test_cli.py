"""extracot-train: help without heavy imports, mistakes in one line, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_training.cli import STAGES, config_class, main
from extracot_training.config.load import load_config, read_yaml
from extracot_training.config.problems import ProblemsConfig
from extracot_training.errors import ConfigError
from tests.training.shown_help import shown_help

CONFIGS = Path(__file__).parents[2] / "training" / "configs"

GENERATOR = "sources: [{kind: generator, size: 30, seed: 1}]\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "problems.yaml"
    path.write_text(f"out: {tmp_path / 'out'}\n{GENERATOR}")
    return path


@pytest.mark.parametrize("stage", ["", *STAGES])
def test_help_imports_nothing_heavy(stage: str) -> None:
    shown = shown_help()[stage]
    assert (shown.code, shown.loaded) == (0, [])
    assert (stage or "problems") in shown.text
    if stage:
        assert "settings:" in shown.text and "\n  out" in shown.text


def test_a_stage_runs_and_is_then_up_to_date(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["problems", "--config", str(config)]) == 0
    assert "problems: done in" in capsys.readouterr().out
    assert main(["problems", "--config", str(config)]) == 0
    assert "problems: up to date in" in capsys.readouterr().out
    assert main(["problems", "--config", str(config), "--set", "sources.0.size=20"]) == 1
    assert "pass --force" in capsys.readouterr().err
    flags = ["--set", "sources.0.size=20", "--force"]
    assert main(["problems", "--config", str(config), *flags]) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["problem"], "unknown stage 'problem' (did you mean 'problems'?)"),
        (["--hepl"], "unknown flag '--hepl' (did you mean '--help'?)"),
        (["problems", "--confg", "x"], "unknown argument '--confg' (did you mean '--config'?)"),
        (["problems"], "want --config FILE"),
        (["problems", "--config"], "expected one argument"),
        (["problems", "--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["problems", "--set", "out"], "--set out: want KEY=VALUE"),
        (["problems", "--set", "out=["], "the value is not YAML"),
        (["problems", "--set", "out=x"], "setting 'sources': Field required"),
        (["mix", "--input", "x"], "mix: has no --input; it reads --set compressed=FOLDER, --set"),
        (["publish", "--input=x"], "publish: has no --input; it reads --set model=FOLDER, --set"),
        (
            ["compare", "--input", "x"],
            "compare: has no --input; it reads --set runs={NAME: ",
        ),
        (["base", "--input", "x"], "base: has no --input; it reads --set inputs=[FOLDER]"),
        (["problems", "--input", "x"], "problems: has no --input; it reads `sources`; see --help"),
    ],
)
def test_wrong_flags_are_one_line_and_code_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("extracot-train: error: ") and message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sorces: []\n" + GENERATOR, "unknown setting 'sorces' (did you mean 'sources'?)"),
        ("limit: 3\n" + GENERATOR, "unknown setting 'limit' (there is one below 'sources')"),
        ("splits: {dve: 0.1}\n" + GENERATOR, "unknown setting 'splits.dve' (did you mean 'dev'?)"),
        (GENERATOR.replace("size", "sise"), "did you mean 'size'?"),
        (GENERATOR.replace("generator", "genrator"), "genrator"),
        ("splits: {dev: 2}\n" + GENERATOR, "setting 'splits.dev'"),
        ("splits: {dev: .nan}\n" + GENERATOR, "setting 'splits.dev'"),
        ("- 1\n", "want a mapping"),
        ("out: [\n", ":2: "),
        ("\ta: 1\n", ":1: "),
    ],
)
def test_wrong_settings_name_the_key(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert main(["problems", "--config", str(path), "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert message in said and str(path) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("stage", "given", "message"),
    [
        (
            "evaluate",
            "budgets=[0.2,7]",
            "setting 'budgets[1]': Input should be less than or equal to 1, or 'auto', 'native' "
            "or 'none'",
        ),
        (
            "evaluate",
            "budgets=[fast]",
            "setting 'budgets[0]': Input should be a valid number, or 'auto', 'native' or 'none'",
        ),
        ("evaluate", "prompt_bins=[5,0]", "setting 'prompt_bins[1]': Input should be greater"),
        ("teach", "backend={kind: http, base_url: nowhere}", "setting 'backend.base_url': "),
        ("teach", "backend={kind: http, modle: m}", "unknown setting 'backend.modle'"),
        ("teach", "source=policy", "source 'policy' needs a backend"),
        ("problems", "sources=[{kind: generator, size: 0}]", "setting 'sources[0].size': "),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_given(
    stage: str, given: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [] if stage == "problems" else ["--set", "base_url=http://localhost/v1"]
    flags = [*flags, "--set", "model=m"] if stage == "evaluate" else []
    where = ["--out", str(tmp_path / "o")] + ([] if stage == "problems" else ["--input", "i"])
    assert main([stage, *where, *flags, "--set", given]) == 2
    said = capsys.readouterr().err
    assert message in said and "(all)" not in said and said.count("\n") == 1


@pytest.mark.parametrize("stage", STAGES)
def test_input_is_offered_where_there_is_one(stage: str) -> None:
    offered = "--input FOLDER" in shown_help()[stage].text
    assert offered == ("input" in config_class(stage).model_fields)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "{kind: jsonl, path: p}",
            "settings 'sources[0].license' (licence recorded in each row, such as CC-BY-4.0 or "
            "unknown) and 'sources[0].name' (name recorded as the rows' source, such as mine) are "
            "required",
        ),
        ("{kind: jsonl}", "'sources[0].path' (file: JSONL, JSON, CSV, TSV or Parquet) and "),
        ("{kind: drill}", "setting 'sources[0].size': Field required (lists to make)"),
        (
            "{kind: jsonl, path: p, name: n, license: l, fields: 3}",
            "setting 'sources[0].fields': want keys of a row by name, such as {question: problem,",
        ),
        (
            "{kind: jsonl, path: p, name: n, license: l, fields: 'quest=a'}",
            "unknown setting 'sources[0].fields.quest' (did you mean 'question'?)",
        ),
    ],
)
def test_all_that_is_missing_is_told_at_once(
    given: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["problems", "--out", str(tmp_path), "--set", f"sources=[{given}]"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_help_says_what_a_field_map_is() -> None:
    text = shown_help()["problems"].text
    assert "sources.fields: which keys hold what, such as question=problem,answer=final" in text
    assert "sources.fields.answer [answer]: key of the gold answer" in text
    assert "license (required)" in text


def test_evaluate_says_what_becomes_of_long_replies() -> None:
    text = " ".join(shown_help()["evaluate"].text.split())
    assert "sampling.max_tokens [4096]: longest reply; a longer one is cut, and judged" in text


def test_a_failing_stage_is_one_line_and_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "?"}\n')
    source = f"sources=[{{kind: gsm8k, path: {path}}}]"
    assert main(["problems", "--set", source, "--out", str(tmp_path / "o")]) == 1
    said = capsys.readouterr().err
    assert f"{path}:1: field 'answer': is missing" in said
    assert said.count("\n") == 1


def test_overrides_reach_into_lists() -> None:
    config = load_config(
        ProblemsConfig,
        CONFIGS / "problems-gsm8k.yaml",
        ["sources.0.path=/elsewhere.jsonl", "splits.dev=0.1", "contamination.against=[]"],
    )
    assert str(config.sources[0].path) == "/elsewhere.jsonl"  # type: ignore[union-attr]
    assert config.splits.dev == 0.1
    with pytest.raises(ConfigError, match=r"no item '3' \(there are 1\)"):
        load_config(ProblemsConfig, CONFIGS / "problems-gsm8k.yaml", ["sources.3.path=x"])
    with pytest.raises(ConfigError, match="below a plain value"):
        load_config(ProblemsConfig, CONFIGS / "problems-gsm8k.yaml", ["out.x=1"])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_parses(path: Path) -> None:
    """A configuration's name starts with its stage: ``teach-vllm.yaml``."""
    stage = path.stem.partition("-")[0]
    assert stage in STAGES, f"{path.name} belongs to no stage"
    assert read_yaml(path)
    load_config(config_class(stage), path)
