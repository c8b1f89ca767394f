"""Flags and settings that contradict themselves, are empty, or are of another kind: one line that
says what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_training.cli import config_class, main
from extracot_training.config.load import load_config
from extracot_training.config.problems import ProblemsConfig
from extracot_training.config.teach import TeachConfig
from extracot_training.errors import ConfigError
from extracot_training.policy.prompt_settings import PromptSettings

EVERYDAY = "sources=[{kind: everyday, size: 3}]"
RUN = ["run", "--model", "m", "--problems", "p", "--out", "o"]
MIX = ["mix", "--out", "o", "--set", "model=m", "--set", "compressed=c"]
ASKED = ("input=i", "out=o", "model=m", "base_url=http://localhost:9/v1")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*RUN, "--problems", "q"], "run: --problems is there twice"),
        ([*RUN, "--fields", "question=a", "--fields", "answer=b"], "--fields is there twice"),
        (["problems", "--out", "a", "--out=b"], "--out is there twice"),
        (["teach", "--input", "a", "--input", "a"], "--input is there twice"),
        (["sft", "--config", "a.yaml", "--config", "b.yaml"], "--config is there twice"),
        (["compress", "--text", "a", "--ratio", "1", "--ratio", "0.3"], "--ratio is there twice"),
        (["plan", "--step", "sft", "--out", "a", "--out", "b"], "--out is there twice for sft"),
        (["plan", "sft-tiny.yaml", "--config", "b"], "plan: --config is there twice for sft"),
    ],
)
def test_a_flag_with_one_value_is_there_once(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        *(([*RUN, f"--{name}", ""], name) for name in ("levels", "name", "seed", "license")),
        *(([*RUN, f"--{name}", " "], name) for name in ("report-to", "set", "skip", "fields")),
        (["compress", "--text", "t", "--compressor", ""], "compressor"),
        (["compress", "--text", "t", "--question="], "question"),
        (["problems", "--out", "o", "--config", ""], "config"),
    ],
)
def test_an_empty_value_is_none(
    argv: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert f"--{flag}" in said and "not an empty text" in said and said.count("\n") == 1


def test_flags_of_folders_do_not_contradict_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "o")
    plain = ["problems", "--set", EVERYDAY, "--set", "splits.dev=0", "--out", out]
    assert main([*plain, "--set", "out=elsewhere"]) == 2
    said = capsys.readouterr().err
    assert f"--set out=elsewhere and --out {out} differ; give one of them" in said
    assert main([*plain, "--set", f"out={out}"]) == 0, "the same folder twice is one"


@pytest.mark.parametrize(
    ("stage", "given", "key"),
    [
        ("problems", "splits.dev=yes", "splits.dev"),
        ("problems", "sources=[{kind: everyday, size: on}]", "sources[0].size"),
        ("evaluate", "limit=true", "limit"),
        ("evaluate", "budgets=[0.2,true]", "budgets[1]"),
        ("evaluate", "prompt_bins=[no]", "prompt_bins[0]"),
        ("evaluate", "sampling.max_tokens=yes", "sampling.max_tokens"),
        ("mix", "prompt.ratios=[0.2,true]", "prompt.ratios[1]"),
        ("mix", "fit.within=yes", "fit.within"),
    ],
)
def test_a_truth_value_is_no_number(stage: str, given: str, key: str) -> None:
    base = {
        "problems": ("out=o", EVERYDAY), "evaluate": ASKED,
        "mix": ("out=o", "model=m", "compressed=c"),
    }[stage]  # fmt: skip
    load_config(config_class(stage), None, base)
    with pytest.raises(ConfigError) as caught:
        load_config(config_class(stage), None, [*base, given])
    said = str(caught.value)
    assert f"setting {key!r}: Input should be a valid " in said
    assert ", not true (so YAML reads " in said or ", not false (so YAML reads " in said


def test_truth_values_stay_where_they_are_wanted_or_anything_is() -> None:
    given = "request_extra={a: true, b: 1}"
    found = load_config(config_class("evaluate"), None, [*ASKED, "template_opens_think=yes", given])
    assert found.template_opens_think is True and found.request_extra == {"a": True, "b": 1}
    assert PromptSettings.model_validate({"policy": False}).policy is False
    mix = load_config(
        config_class("mix"), None, ["out=o", "model=m", "compressed=c", "fit.equations=no"]
    )
    assert mix.fit.equations is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*MIX, "--set", "splits=train"], "setting 'splits': want a list, such as [train]"),
        ([*MIX, "--set", "also=runs"], "setting 'also': want a list, such as [{traces: …}]"),
        ([*MIX, "--set", "fit=true"], "setting 'fit': want a mapping with within, equations"),
        ([*MIX, "--set", "splits=[]"], "setting 'splits': want at least 1, not 0"),
        ([*MIX, "--set", "splits=[train,train]"], "setting 'splits': train is there twice"),
        ([*MIX, "--set", "level_shares=[0,0,0,0,0]"], "level_shares: want one above 0"),
        (["compare", "--out", "o", "--set", "runs=3"], "'runs': want a mapping, such as {name: "),
        (["problems", "--out", "o", "--set", EVERYDAY, "--set", "splits=3"],
         "setting 'splits': want a mapping with seed, dev, test"),
        (["problems", "--out", "o", "--set", "sources=[{kind: jsnl}]"],
         "setting 'sources[0]': unknown kind 'jsnl' (did you mean 'jsonl'?); known are gsm8k, "),
        (["problems", "--out", "o", "--set", "sources=[{size: 3}]"],
         "setting 'sources[0]': want a kind: gsm8k, "),
        (["problems", "--out", "o", "--set", "sources=[3]"],
         "setting 'sources[0]': want a mapping with a kind: gsm8k, "),
        (["problems", "--out", "o", "--set", "splits..dev=1"], "--set splits..dev=1: want KEY="),
        (["problems", "--out", "o", "--set", ".out=1"], "--set .out=1: want KEY=VALUE, a KEY"),
    ],
)  # fmt: skip
def test_what_to_write_is_told_in_words_of_yaml(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not any(word in said for word in ("tuple", "dictionary", "instance", "Input tag"))


def test_rows_given_as_a_configuration_are_told_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "de.jsonl"
    path.write_text('{"question": "q?"}\n{"question": "r?"}\n')
    with pytest.raises(ConfigError, match=r"de.jsonl:2: no YAML mapping of settings"):
        load_config(ProblemsConfig, path)


def test_own_traces_are_one_a_problem_unless_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = TeachConfig(input=Path("i"), out=Path("o"), source="own")
    asked = {"input": "i", "out": "o", "backend": {"kind": "vllm", "model": "m"}}
    policy = TeachConfig.model_validate(asked)
    assert (own.each, policy.each) == (1, 4)
    said = TeachConfig.model_validate({**asked, "samples": 4})
    assert said.fingerprint() == policy.fingerprint(), "folders of earlier versions go on"
    assert own.fingerprint()["samples"] == 1
    for flags in (["--set", "source=own"], []):
        nowhere = str(tmp_path / "nowhere")
        assert main(["teach", *flags, "--input", nowhere, "--out", str(tmp_path / "o")]) != 0
        said_first = capsys.readouterr().err.partition(";")[0]
        assert nowhere in said_first and "no such file or folder" in said_first
    with pytest.raises(ConfigError, match="set samples to 1"):
        load_config(TeachConfig, None, ["source=own", "samples=4", "input=i", "out=o"])
