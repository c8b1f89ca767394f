"""extracot-train's settings as they are given: seeds, paths, YAML that cannot be read, flags
that do not go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from extracot_training.cli import STAGES, config_class, main
from extracot_training.config.load import load_config, read_yaml
from extracot_training.config.problems import ProblemsConfig
from extracot_training.config.sft import SftConfig
from extracot_training.errors import ConfigError
from extracot_training.pipeline.settings import SEEDS
from extracot_training.policy.pretrained import PretrainedError, is_path, load_tokenizer
from extracot_training.run.options import RunOptions

SOURCE = "{kind: generator, size: 3, seed: 1}"
G = ("--set", f"sources=[{SOURCE}]", "--set", "splits.dev=0")
SFT = ("input=i", "model=m", "out=o")


def models_below(model: Any) -> list[type[BaseModel]]:
    """The model and all that its settings are made of."""
    found: list[type[BaseModel]] = []

    def look(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.append(kind)
            for info in kind.model_fields.values():
                look(info.annotation)
        for part in getattr(kind, "__args__", ()):
            look(part)

    look(model)
    return found


@pytest.mark.parametrize("stage", [*STAGES, "run"])
def test_every_seed_is_one_that_all_generators_take(stage: str) -> None:
    model = RunOptions if stage == "run" else config_class(stage)
    for part in models_below(model):
        if info := part.model_fields.get("seed"):
            limits = {type(one).__name__.lower(): one for one in info.metadata}
            assert (limits["ge"].ge, limits["lt"].lt) == (0, SEEDS), part


@pytest.mark.parametrize("seed", ["-1", "4294967296", "9" * 30])
def test_another_seed_is_refused_before_anything_is_done(
    seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    asked = [
        "--input",
        str(tmp_path),
        "--set",
        "base_url=http://localhost:9/v1",
        "--set",
        "model=m",
    ]
    for argv in (["evaluate", *asked, *out], ["chrpo", "--simulate"],
                 ["compare", "--set", "runs={a: a}", *out],
                 ["base", "--set", "inputs=[i]", *out]):  # fmt: skip
        assert main([*argv, "--set", f"seed={seed}"]) == 2
        said = capsys.readouterr().err
        assert "error: setting 'seed': Input should be " in said and said.count("\n") == 1
    flags = ["--model", "m", "--problems", "p", *out, "--plan", "--seed", seed]
    assert main(["run", *flags]) == 2
    assert "run: --seed: Input should be " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["42", "007", "2025-07-01", "2025-13-45", "yes", "~", "a #b", "[x"]
)
def test_flags_of_folders_are_paths_as_they_stand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["problems", *G, "--out", name]) == 0
    own = ["--set", "source=own", "--set", "samples=1"]
    assert main(["teach", *own, "--input", name, "--out", f"{name} t"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"{name} t"])
    assert main(["plan", "--step", "teach", *own, "--input", name, "--out", f"{name} u"]) == 0


def test_an_empty_folder_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", *G, "--out", ""]) == 2
    assert "--out wants a value, not an empty text" in capsys.readouterr().err


NONE = "quote it if it is a text"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "splits.seed=0x_",
            f"--set splits.seed=0x_: '0x_' is not a number that can be read; {NONE}",
        ),
        ("out=2025-13-45", f"--set out=2025-13-45: '2025-13-45' is not a day or a time; {NONE}"),
        ("splits.seed=" + "9" * 5000, f"99...: '{'9' * 57}...' is not a number that can be read"),
        ("splits.seed=!!bool x", "'x' is not true or false"),
        ("splits.seed=!!timestamp x", "'x' is not a day or a time"),
        ("out=" + "[" * 3000, "[[...: is nested too deeply"),
        ("sources.²={}", "--set sources.²={}: no item '²' (there are 1)"),
        ("sources." + "9" * 5000 + "={}", "(there are 1)"),
        ("sources=[{kind: generator, size: 3, size: 4}]", "the key 'size' is there twice"),
        ("out.x=1", "--set out.x=1: 'x' lies below a plain value"),
    ],
)
def test_values_that_cannot_be_read_are_one_line(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(ProblemsConfig, None, [f"sources=[{SOURCE}]", "out=o", given])
    assert message in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: 1\na: 2025-13-45\n", f"c.yaml:2: '2025-13-45' is not a day or a time; {NONE}"),
        ("a: 0x_\n", "c.yaml:1: '0x_' is not a number that can be read"),
        ("a: 1\nb: 2\na: 3\n", "c.yaml:3: the key 'a' is there twice, first in line 1"),
        ("a: {b: 1, b: 1}\n", "c.yaml:1: the key 'b' is there twice"),
        ("[" * 3000, "c.yaml: is nested too deeply"),
        ("a: 1\n!!seq x: 1\n", "c.yaml:2: 'x' is"),
    ],
)
def test_files_that_cannot_be_read_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "c.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_day_is_one_whatever_is_done_to_the_usual_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lm-format-enforcer does it, when it is imported."""
    readers, day = yaml.SafeLoader.yaml_constructors, "tag:yaml.org,2002:timestamp"
    monkeypatch.setitem(readers, day, readers["tag:yaml.org,2002:str"])
    (tmp_path / "c.yaml").write_text("a: 2025-13-45\n")
    with pytest.raises(ConfigError, match="is not a day or a time"):
        read_yaml(tmp_path / "c.yaml")


def test_what_is_merged_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n")
    assert read_yaml(tmp_path / "c.yaml")["b"] == {"x": 3, "y": 2}


def test_a_setting_below_null_is_set() -> None:
    plain = load_config(SftConfig, None, ["lora.rank=8", *SFT])
    assert plain.lora is not None and plain.lora.rank == 8
    known = {"lora": None, "cache_states": None}
    again = load_config(SftConfig, None, [*SFT, "lora.rank=8"], under=known)
    assert (again.lora, again.cache_states) == (plain.lora, None)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compress", "--text", "t", "--out", "x"], "--out does not go with --text"),
        (["compress", "--text", "t", "--set", "batch=1"], "--set does not go with --text"),
        (["compress", "--json", "--out", "x"], "--json wants --text FILE as well"),
        (["chrpo", "--simulate", "--out", "x"], "--out does not go with --simulate"),
        (["chrpo", "--simulate", "--force"], "--force does not go with --simulate"),
        (["chrpo", "--json", "--out", "x"], "--json wants --simulate as well"),
        (
            ["annotate", "--input", "i", "--out", "o", "--set", "keep_rate=[0.9,0.1]"],
            "setting 'keep_rate': want the smaller share first",
        ),
        (
            ["reader", "--out", "o", "--set", "problems.steps=[5,2]"],
            "setting 'problems.steps': want",
        ),
        (
            ["compare", "--out", "o", "--set", "runs={a: a, a (rows): b}"],
            "setting 'runs': 'a (rows)' is what the rows of 'a' are called",
        ),
    ],
)
def test_what_does_not_go_together_is_told(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_force_deletes_neither_its_configuration_nor_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, own = str(tmp_path / "p"), ["--set", "source=own", "--set", "samples=1"]
    assert main(["problems", *G, "--out", out]) == 0
    file = tmp_path / "p" / "mine.yaml"
    file.write_text(f"sources: [{SOURCE}]\nsplits: {{dev: 0}}\n")
    assert main(["problems", "--config", str(file), "--out", out, "--force"]) == 1
    assert "'--config' is read there" in capsys.readouterr().err and file.is_file()
    assert main(["teach", *own, "--input", out, "--out", out, "--force"]) == 1
    assert "'input' is read there" in capsys.readouterr().err
    where = ["--set", f"tokenizer={out}", "--out", out, "--force"]
    assert main(["teach", *own, "--input", str(tmp_path), *where]) == 1
    assert "'tokenizer' is read there" in capsys.readouterr().err
    assert len((tmp_path / "p" / "rows.jsonl").read_text().splitlines()) == 3


def test_a_path_is_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v").mkdir()
    for name in ("/none", "./none", "../none", "~/none", "a/b/c", "v/none"):
        with pytest.raises(PretrainedError, match=rf"'{name}': no such folder here"):
            load_tokenizer(name)
    assert not any(map(is_path, ("gpt2", "openai/gpt2", "bundled:smollm2")))


def test_a_plan_knows_what_a_folder_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "p")
    assert main(["problems", *G, "--out", out]) == 0
    plan = ["plan", "--step", "problems", *G, "--out", out, "--json"]
    for lost in (False, True):
        if lost:
            (tmp_path / "p" / "rows.jsonl").unlink()
        capsys.readouterr()
        assert main(plan) == 0
        assert json.loads(capsys.readouterr().out)["stages"][0]["done"] is not lost
