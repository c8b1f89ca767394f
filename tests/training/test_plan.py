"""``extracot-train plan``: arithmetic against numbers worked out by hand, and what it finds lying
there."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from extracot_training.cli import config_class, main
from extracot_training.config.plan import Assumptions
from extracot_training.config.sft import SftConfig
from extracot_training.errors import ConfigError
from extracot_training.planning import costs, estimate
from extracot_training.planning.command import plan_of, read, stage_of
from extracot_training.planning.ledger import TEMPLATE, Ledger, Rows, count_problems
from extracot_training.planning.shape import KNOWN, shape_of_config
from tests.training import tiny_policy

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "training" / "configs"
QWEN3 = shape_of_config(KNOWN["Qwen/Qwen3-1.7B"])


def data(folder: Path) -> Path:
    """Problem files as many rows long as the real ones."""
    sizes = {
        "gsm8k/train": 7473, "gsm8k/test": 1319, "math/train": 7500, "math500/test": 500,
        "amc2023": 40,
    }  # fmt: skip
    for name, size in sizes.items():
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        key = "question" if name.startswith(("gsm8k", "amc")) else "problem"
        path.write_text((json.dumps({key: "How many? " * 22}) + "\n") * size)
    return folder


def planned(tmp_path: Path, **environment: str) -> dict[str, Any]:
    """The recipe's plan, by the name of each step (the last of a name)."""
    command = ["bash", str(ROOT / "training" / "recipes" / "qwen3-1.7b.sh")]
    settings = {
        "PLAN": "yes", "OUT": str(tmp_path / "out"), "DATA": str(data(tmp_path / "data")),
        "TRAIN_COMMAND": f"{sys.executable} -m extracot_training.cli", "ASSUME": "--json",
    }  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | settings | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out").exists(), "a plan writes nothing"
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"by_name": {one["name"]: one for one in found["stages"]}}


def test_the_weights_of_qwen3_are_as_published() -> None:
    assert QWEN3.weights == pytest.approx(1.7206e9, rel=1e-3)
    assert shape_of_config(KNOWN["Qwen/Qwen3-8B"]).weights == pytest.approx(8.19e9, rel=1e-2)
    assert QWEN3.kv_bytes == 2 * 28 * 8 * 128 * 2


def test_full_fine_tuning_holds_sixteen_bytes_a_weight() -> None:
    config = SftConfig.model_validate({"input": "i", "model": "m", "out": "o"})
    states = costs.states(config, QWEN3, shards=1)
    assert sum(states.values()) == pytest.approx(16 * QWEN3.weights)
    assert sum(costs.states(config, QWEN3, shards=8).values()) == pytest.approx(2 * QWEN3.weights)
    pure = config.model_copy(update={"precision": "pure_bf16"})
    assert sum(costs.states(pure, QWEN3, 1).values()) == pytest.approx(8 * QWEN3.weights)
    assert costs.passes(config) == 8
    assert costs.passes(config.model_copy(update={"gradient_checkpointing": False})) == 6
    # 2 rows of 6,144 tokens: logits in float32 and their gradient.
    held = costs.activations(config, QWEN3, 2, 6144)
    assert held["logits"] == 2 * 6144 * 151_936 * 8


def test_frozen_layers_cost_no_gradients_and_are_read_once_where_their_states_are_kept(
    tmp_path: Path,
) -> None:
    base = {"hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
            "num_hidden_layers": 30, "intermediate_size": 1536, "vocab_size": 49152,
            "tie_word_embeddings": True}  # fmt: skip
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(base))
    shape = shape_of_config(base)
    assert costs.learning_share(shape, 20) == pytest.approx(1 - 20 / 30 * 0.79, abs=0.01)
    known = {"input": tmp_path / "i", "model": str(tmp_path / "m"), "out": tmp_path / "o",
             "device": "cpu", "epochs": 4, "gradient_checkpointing": False}  # fmt: skip
    found = []
    for more in ({}, {"freeze_layers": 20}, {"freeze_layers": 20, "cache_states": {}}):
        ledger = Ledger(Assumptions(), {})
        ledger.put(tmp_path / "i", Rows({"train": 1000.0}, 100.0, 100.0, 10.0))
        found.append(estimate.sft(SftConfig.model_validate(known | more), ledger))
    hours = [one.hours / found[0].hours for one in found]
    share = costs.learning_share(shape, 20)
    assert hours == pytest.approx([1, share + (1 - share) / 3, share + (1 - share) / 12])
    assert found[1].memory["optimizer"] == pytest.approx(share * found[0].memory["optimizer"])
    assert found[1].memory["activations"] == pytest.approx(found[0].memory["activations"] / 3)


def test_an_adapter_has_the_weights_that_peft_says(tmp_path: Path) -> None:
    from peft import get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from extracot_training.policy.adapters import adapter_config
    from extracot_training.policy.training_settings import LoraSettings

    said = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 32,
        "num_key_value_heads": 1, "intermediate_size": 48, "vocab_size": 64,
        "tie_word_embeddings": True,
    }  # fmt: skip
    shape = shape_of_config(said)
    model = Qwen3ForCausalLM(Qwen3Config(**said))
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    total = sum(p.numel() for p in model.parameters())
    assert shape.weights == pytest.approx(total, abs=norms)
    adapted = get_peft_model(model, adapter_config(LoraSettings(rank=4), model))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.adapter(4) == trained


def test_the_papers_recipe_takes_about_thirteen_hours_of_an_h100(tmp_path: Path) -> None:
    """12 thousand questions at five ratios and ten thousand policy rows, as the paper says."""
    found = planned(tmp_path)
    by_name = found["by_name"]
    assert by_name["problems"]["rows"] == 14_973
    assert by_name["mix-fixed"]["rows"] == pytest.approx(60_000, rel=0.06)
    assert by_name["mix-policy"]["rows"] - by_name["mix-fixed"]["rows"] == pytest.approx(
        10_000, rel=0.06
    )
    assert 12 <= found["gpu_hours"] <= 14.5
    assert max(by_name, key=lambda name: by_name[name]["hours"]) == "chrpo"
    for name in ("sft", "chrpo"):
        assert 30 < sum(by_name[name]["memory_gib"].values()) < 80, "fits on one GPU of 80 GB"
    assert next(iter(by_name)) == "problems" and "published" in by_name


def test_eight_gpus_share_the_trainings_and_adapters_hold_less(tmp_path: Path) -> None:
    one, eight = planned(tmp_path), planned(tmp_path, GPUS="8")
    for name in ("sft-fixed", "sft", "chrpo"):
        first, second = one["by_name"][name], eight["by_name"][name]
        assert first["tokens"] == pytest.approx(second["tokens"]), "the same batches"
        assert second["hours"] == pytest.approx(first["hours"] / 8)
        assert "no GPU was found here" in second["note"] or first["note"] is None
    assert one["by_name"]["teach"]["hours"] == eight["by_name"]["teach"]["hours"]
    lora = planned(tmp_path, LORA="yes")["by_name"]["chrpo"]
    assert sum(lora["memory_gib"].values()) < sum(one["by_name"]["chrpo"]["memory_gib"].values())
    assert "start" not in lora["memory_gib"]


def test_what_lies_there_is_counted_and_costs_nothing_more(tmp_path: Path) -> None:
    mix = tiny_policy.make_all(tmp_path)
    rows = (mix / "rows.jsonl").read_text().splitlines()
    lengths = [len(r["prompt_ids"]) + len(r["reply_ids"]) for r in map(json.loads, rows)]
    configs = [
        ("mix", tiny_policy.mix_config(tmp_path, policy={"share": 0.2})),
        ("sft", tiny_policy.sft_config(tmp_path, epochs=2.0)),
    ]
    first, second = plan_of(configs, Assumptions())
    assert first.done and first.rows is not None and first.rows.known
    assert first.rows.count() == len(rows)
    assert not second.done
    assert second.cost.tokens == pytest.approx(2 * sum(lengths))
    assert second.cost.gpus == 0, "device cpu"


def test_a_mixture_is_planned_by_its_shares_its_limit_and_other_folders(tmp_path: Path) -> None:
    known = {"compressed": tmp_path / "c", "model": "bundled:smollm2", "out": tmp_path / "o"}
    also = [{"traces": tmp_path / "a", "limit": 5}, {"traces": tmp_path / "a"}]
    for more, rows in (
        ({}, 500),
        ({"level_shares": [0.5, 0.5, 0.25, 0, 0.25]}, 150),
        ({"limit": 20}, 100),
        ({"limit": 20, "level_shares": [0.5, 0.5, 0.5, 0.5, 0]}, 40),
        ({"also": also}, 500 + 5 + 30),
        ({"compressed": None, "traces": tmp_path / "a", "limit": 20}, 20),
    ):
        ledger = Ledger(Assumptions(), {}, {"bundled:smollm2": QWEN3})
        ledger.put(tmp_path / "c", Rows({"train": 500.0, "dev": 90.0}, 50.0, 100.0, 10.0))
        ledger.put(tmp_path / "a", Rows({"train": 30.0, "dev": 9.0}, 50.0, 200.0, 10.0))
        estimate.mix(config_class("mix").model_validate(known | more), ledger)
        found = ledger.rows[str(tmp_path / "o")]
        assert found.count() == pytest.approx(rows)
        whole = 35 / 535 if "also" in more else float("traces" in more)
        assert found.reasoning == pytest.approx(100 + 100 * whole)


def test_a_step_that_has_nothing_left_is_named(tmp_path: Path) -> None:
    path = put_problems(tmp_path / "own.jsonl", [{"question": "Why?", "answer": 1}] * 3)
    source = {"kind": "jsonl", "path": path, "name": "own", "license": "none"}
    steps = [
        ("problems", {"sources": [source], "splits": {"dev": 0}, "out": tmp_path / "p"}),
        ("teach", {"input": tmp_path / "p", "splits": ["dev"], "source": "own",
                   "samples": 1, "out": tmp_path / "t"}),
        ("compress", {"input": tmp_path / "t", "out": tmp_path / "c"}),
    ]  # fmt: skip
    configs = [(stage, config_class(stage).model_validate(given)) for stage, given in steps]
    with pytest.raises(ConfigError, match=r"^t: would make no row: nothing of splits dev is left"):
        plan_of(configs, Assumptions(), {})


def test_ones_own_questions_are_measured_by_the_field_map(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text((json.dumps({"task": "x" * 72, "gold": 1}) + "\n") * 3)
    source = {"kind": "jsonl", "path": tmp_path / "own.jsonl", "name": "own", "license": "none",
              "fields": "question=task,answer=gold"}  # fmt: skip
    config = config_class("problems").model_validate({"sources": [source], "out": tmp_path / "p"})
    (one,) = plan_of([("problems", config)], Assumptions(characters=3.6), {})
    assert one.rows is not None
    assert (one.rows.count(), one.rows.prompt) == (pytest.approx(3), pytest.approx(20 + TEMPLATE))


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_is_counted_and_measured(tmp_path: Path, suffix: str) -> None:
    texts = ["two\nlines, and a comma".ljust(72, "x"), "y" * 36]
    path = put_problems(tmp_path / f"own.{suffix}", [{"task": text, "gold": 1} for text in texts])
    source = {"kind": "jsonl", "path": path, "name": "own", "license": "none",
              "fields": "question=task,answer=gold"}  # fmt: skip
    config = config_class("problems").model_validate({"sources": [source], "out": tmp_path / "p"})
    (one,) = plan_of([("problems", config)], Assumptions(characters=3.6), {})
    assert one.rows is not None
    assert (one.rows.count(), one.rows.prompt) == (pytest.approx(2), pytest.approx(15 + TEMPLATE))


def test_a_question_below_another_key_is_measured(tmp_path: Path) -> None:
    path = put_problems(tmp_path / "own.jsonl", [{"turns": [{"text": "x" * 36}]}, {"turns": []}])
    assert count_problems(path, Assumptions(characters=3.6), "turns.0.text") == (2, 5.0)


def put_problems(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in a file of the kind that its suffix names."""
    match path.suffix:
        case ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case suffix:
            with path.open("w", newline="") as stream:
                table = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if suffix == ".tsv"
                                       else ",")  # fmt: skip
                table.writeheader()
                table.writerows(rows)
    return path


def test_assumptions_can_be_changed_and_are_told(capsys: pytest.CaptureFixture[str],
                                                 tmp_path: Path) -> None:  # fmt: skip
    mix = tiny_policy.make_all(tmp_path)
    words = ["plan", str(CONFIGS / "sft-qwen3-1.7b.yaml"), "--input", str(mix)]
    hours = []
    for more in ([], ["--assume", "mfu=0.7"]):
        assert main([*words, *more, "--json"]) == 0
        hours.append(json.loads(capsys.readouterr().out)["hours"])
    assert hours[0] == pytest.approx(2 * hours[1])
    assert main([*words, "--assume", "gpu_gib=24"]) == 0
    told = capsys.readouterr().out
    assert "more than the 24 GiB of a GPU" in told
    assert "formulas:" in told and "mfu=0.35" in told and "gpu_gib=24.0" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x/sfd-a.yaml"], "no stage that can be planned is named 'sfd' (did you mean 'sft'?)"),
        (["--set", "a=1"], "--set comes before any CONFIG"),
        (["--step", "sft", "--set"], "--set wants a value"),
        (["--chek"], "unknown argument '--chek' (did you mean '--check'?)"),
        (["--json"], "want a CONFIG"),
        (["--json=1"], "plan: --json takes no value"),
        (["--check=no"], "plan: --check takes no value"),
        (["--step", "sft", "--assume", "mfu"], "--assume mfu: want KEY=VALUE"),
        (["--step", "sft", "--assume", "mfu=2", "--set", "a=1"], "setting 'mfu': "),
        (["--step", "sft", "--assume", "mfo=1"], "unknown setting 'mfo' (did you mean 'mfu'?)"),
        (
            [str(CONFIGS / "sft-qwen3-1.7b.yaml"), "--set", "input=none"],
            "setting 'input': none is not there or not finished, and no stage before makes it",
        ),
        ([str(CONFIGS / "problems-gsm8k.yaml"), "--set", "sources.0.path=none.jsonl"],
         "none.jsonl: No such file"),
        ([str(CONFIGS / "problems-gsm8k.yaml"), "--set", "sources.0.path=mine.xlsx"],
         "mine.xlsx: spreadsheets are not read; save it as CSV (read are JSONL, JSON, CSV,"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["plan", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_an_unknown_models_size_can_be_given(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mix = tiny_policy.make_all(tmp_path)
    words = [
        "plan",
        str(CONFIGS / "sft-qwen3-1.7b.yaml"),
        "--input",
        str(mix),
        "--set",
        "model=a/b",
    ]
    assert main(words) == 2
    assert (
        "give a folder with its config.json, or --assume weights=1.7e9" in capsys.readouterr().err
    )
    assert main([*words, "--assume", "weights=7.0e9", "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["stages"][0]["memory_gib"]
    assert memory["optimizer"] == pytest.approx(8 * 7e9 / 2**30)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text('{"hidden_size": 2}')
    assert main([*words, "--set", f"model={tmp_path / 'bad'}"]) == 2
    assert "says no sizes of a causal model" in capsys.readouterr().err


def test_a_check_says_what_could_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--check", str(CONFIGS / "sft-qwen3-1.7b.yaml")]
    assert main([*words, "--set", "processes=3"]) == 2
    assert "'global_batch': want a multiple of batch x processes" in capsys.readouterr().err
    assert main([*words, "--set", "device=cpu", "--set", "processes=4"]) == 0
    assert capsys.readouterr().out == ""


def test_every_stage_of_a_recipe_can_be_planned_and_flags_belong_to_their_config() -> None:
    assert stage_of("training/configs/chrpo-qwen3-1.7b.yaml") == "chrpo"
    request = read(
        [
            "a/sft.yaml",
            "--set",
            "a=1",
            "--input=x",
            "--step",
            "mix",
            "--config",
            "m.yaml",
            "--check",
        ]
    )
    first, second = request.steps
    assert (first.stage, first.config, first.overrides) == ("sft", Path("a/sft.yaml"), ["a=1"])
    assert first.given == {"input": "x"}
    assert (second.stage, second.config, second.overrides) == ("mix", Path("m.yaml"), [])
    assert request.check
    with pytest.raises(ConfigError, match="want a CONFIG"):
        read([])
    assert config_class("sft") is SftConfig


def test_a_plan_loads_nothing_heavy(tmp_path: Path) -> None:
    mix = tiny_policy.make_all(tmp_path)
    config = str(CONFIGS / "sft-qwen3-1.7b.yaml")
    code = (
        "import sys; from extracot_training.cli import main; "
        f"assert main(['plan', {config!r}, '--input', {str(mix)!r}]) == 0; "
        "assert not {'torch', 'transformers', 'trl', 'vllm'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
