"""``extracot-train run``: what is refused before anything is spent, what is chosen, and the stages
of a run. What it ends with is in tests/contract/test_own_run.py."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from extracot.card import BudgetCard, LevelCard
from extracot_training.cli import config_class, main
from extracot_training.errors import ConfigError, StageError
from extracot_training.evaluation.serving import become_server
from extracot_training.planning.shape import KNOWN, Shape, shape_of_config
from extracot_training.run import checks
from extracot_training.run.data import FEW, read_data, teacher_of
from extracot_training.run.machine import Base, Machine
from extracot_training.run.options import RunOptions, read
from extracot_training.run.presets import preset_of
from extracot_training.run.recipe import FEWEST_STEPS, FSDP, Effort, Recipe
from extracot_training.run.remembered import (
    RUN,
    config_file,
    recall,
    reload,
    remember,
    write_sharding,
)
from extracot_training.run.spending import (
    assumptions,
    configured,
    effort_told,
    fitting,
    hours_of,
    memory_fault,
    planned,
    preset_told,
)

SMOL = Shape(30, 576, 1536, 9, 3, 64, 49152, 135e6)
QWEN, LARGE = (shape_of_config(KNOWN[f"Qwen/Qwen3-{size}"]) for size in ("1.7B", "8B"))
CPU = Machine(2, 24.0, 0, "", 0.0, False, 0.2)


def gpus(count: int, gib: float = 80.0) -> Machine:
    return Machine(16, 200.0, count, "H100", gib, True, 1.0)


def rows(count: int, **changes: Any) -> list[dict[str, Any]]:
    found = [
        {"prompt": f"Ana has {n} pens and buys {n + 1} more. How many?", "final": str(2 * n + 1),
         "cot": f"She has {n} pens. {n} + {n + 1} = {2 * n + 1}. So {2 * n + 1} pens."}
        for n in range(count)
    ]  # fmt: skip
    return [{**row, **changes} for row in found]


def write(path: Path, given: Sequence[Any]) -> Path:
    lines = (one if isinstance(one, str) else json.dumps(one) for one in given)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def options(tmp_path: Path, given: Sequence[Any] | None = None, **changes: Any) -> RunOptions:
    known = {
        "model": "bundled:smollm2", "out": tmp_path / "run",
        "problems": write(tmp_path / "mine.jsonl", rows(40) if given is None else given),
        "fields": "question=prompt,answer=final,solution=cot",
    }  # fmt: skip
    return RunOptions.model_validate(known | changes)


def recipe(made: RunOptions, machine: Machine = CPU, shape: Shape = SMOL) -> Recipe:
    data = read_data(made)
    preset = preset_of(shape, machine, lora=made.lora, vllm=bool(machine.gpus))
    return Recipe(made, data, Base(shape, 8192), preset, teacher_of(made, data))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "mine.jsonl: no rows; want a problem a row"),
        (rows(1), "1 problem is left of 1 rows; want two or more"),
        ([*rows(2), "{broken"], "mine.jsonl:3: not JSON"),
        ([*rows(2), {"prompt": "Why?", "cot": "So."}], "mine.jsonl:3: field 'final': is missing"),
        (
            [{"question": "Why?"}],
            "mine.jsonl:1: field 'final': is missing; the row has: question; "
            "name its key in --fields, correct that row, or pass --bad-rows skip",
        ),
        ([*rows(2), {"prompt": " ", "final": "3"}], "mine.jsonl:3: field 'prompt': is empty"),
        ([*rows(2), *rows(1, final="8")], "rows own 1 and own 3 ask the same"),
        (
            [{"prompt": f"{n}?", "final": n, "why": "So."} for n in range(3)],
            "mine.jsonl:1: field 'cot': is missing in all rows; the row has: prompt, final, why; "
            "correct that key in --fields, or leave it out",
        ),
        (rows(3, cot=None), "no row has a solution, and vLLM cannot load bundled:smollm2"),
    ],
)
def test_bad_files_are_one_line_with_the_row_and_the_remedy(
    tmp_path: Path, given: list[Any], message: str
) -> None:
    made = options(tmp_path, given)
    with pytest.raises(StageError) as caught:
        teacher_of(made, read_data(made))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_remedies_are_flags_and_work(tmp_path: Path) -> None:
    bad = [*rows(4), {"prompt": "Why?"}, *rows(1, final="8"), *rows(1)]
    with pytest.raises(StageError, match="pass --bad-rows skip"):
        read_data(options(tmp_path, bad))
    with pytest.raises(StageError, match=r"all 1 rows are bad.*or name other keys in --fields$"):
        read_data(options(tmp_path, [{"text": "Why?"}], bad_rows="skip"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StageError, match=r"folder: is a folder; want a file"):
        read_data(options(tmp_path, problems=tmp_path / "folder"))
    bad_file = write(tmp_path / "mine.jsonl.gz", [])
    with pytest.raises(StageError, match=r"mine.jsonl.gz: is packed; unpack it to JSONL"):
        read_data(options(tmp_path, problems=bad_file))
    sheet = write(tmp_path / "mine.XLSX", [])
    read = (
        r"spreadsheets are not read; save it as CSV \(read are JSONL, JSON, CSV, TSV or Parquet\)"
    )
    with pytest.raises(StageError, match=rf"mine.XLSX: {read}$"):
        read_data(options(tmp_path, problems=sheet))
    with pytest.raises(StageError, match="pass --conflicts first or drop"):
        read_data(options(tmp_path, bad, bad_rows="skip"))
    data = read_data(options(tmp_path, bad, bad_rows="skip", conflicts="drop"))
    assert (data.rows, data.problems, len(data.skipped)) == (7, 3, 1)


@pytest.mark.parametrize("count", [2, 3, 10, FEW - 1, FEW, 40, 300])
def test_every_split_that_is_used_has_problems(tmp_path: Path, count: int) -> None:
    data = read_data(options(tmp_path, rows(count)))
    assert data.sizes["train"] >= 1 and data.sizes["dev"] >= 1
    assert data.judged == ("test" if count >= FEW else "dev") and data.sizes[data.judged] >= 1
    assert sum(data.sizes.values()) == count


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--modle", "m"], "unknown argument '--modle' (did you mean '--model'?)"),
        (["--model", "m"], "want --problems and --out"),
        (["--levels", "0.5"], "--levels: want two levels or more, and 1.0 as the last"),
        (["--levels", "0.5,0.2,1.0"], "--levels: ratios [0.5, 0.2, 1.0]: want them increasing"),
        (["--levels", "a,1.0"], "--levels: Input should be a valid number"),
        (["--budget-hours", "0"], "--budget-hours: Input should be greater than 0"),
        (["--skip", "sft"], "--skip: Input should be 'policy', 'chrpo' or 'evaluate'"),
        (["--teacher", "gpt"], "teacher: want own, vllm, auto or an address"),
        (["--teacher", "http://h/v1"], "teacher-model: which model to ask"),
        (["--fields", "prompt"], "--fields: want keys of a row by name"),
        (["--fields", "solutoin=cot"], "--fields: unknown key 'solutoin' (did you mean 'solution'?)"
         "; known are question, answer, solution, family"),
        (["--name", "a b"], "--name: want printable characters without spaces"),
    ],
)  # fmt: skip
def test_wrong_flags_are_one_line(argv: list[str], message: str) -> None:
    whole = [] if argv[0].startswith("--mod") else ["--model", "m", "--problems", "p", "--out", "o"]
    with pytest.raises(ConfigError) as caught:
        read([*whole, *argv])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_says_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write(tmp_path / "none.jsonl", []))
    argv = ["run", "--model", "m", "--problems", file, "--out", str(tmp_path / "o"), "--plan"]
    assert main(argv) == 1
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("shape", "machine", "expected"),
    [
        (SMOL, CPU, ("135M on a CPU (fp32)", 1, False, False)),
        (SMOL, replace(CPU, bf16=True), ("135M on a CPU (bf16)", 1, False, False)),
        (QWEN, gpus(1), ("1.7B on one GPU (bf16)", 1, False, False)),
        (LARGE, gpus(8), ("8.2B on 8 GPUs (bf16, weights sharded, adapters in chrpo)", 8, True,
                          False)),
        (LARGE, gpus(1), ("8.2B on one GPU (bf16, adapters)", 1, False, True)),
    ],
)  # fmt: skip
def test_a_configuration_per_size(
    shape: Shape, machine: Machine, expected: tuple[str, int, bool, bool]
) -> None:
    found = preset_of(shape, machine, lora=False, vllm=True)
    assert (found.name, found.processes, found.sharded, found.lora_sft) == expected


CASES = [
    (CPU, SMOL, {}),
    (CPU, SMOL, {"levels": [0.5, 1.0], "lora": True, "compressor": "train"}),
    (CPU, SMOL, {"skip": ["chrpo"]}),
    (CPU, SMOL, {"skip": ["policy", "evaluate"]}),
    (gpus(1), QWEN, {"teacher": "vllm", "model": "Qwen/Qwen3-1.7B"}),
    (gpus(8), LARGE, {"model": "Qwen/Qwen3-8B"}),
    (gpus(3), SMOL, {"levels": [0.1, 0.3, 0.9, 1.0]}),
]


@pytest.mark.parametrize(("machine", "shape", "changes"), CASES, ids=map(str, range(len(CASES))))
def test_every_configuration_is_valid_can_be_shared_out_and_planned(
    tmp_path: Path, machine: Machine, shape: Shape, changes: dict[str, Any]
) -> None:
    made = recipe(options(tmp_path, **changes), machine, shape)
    steps = configured(made, Effort.of(made.preset, 1.0), config_class)
    names = [step.name for step, _ in steps]
    assert ("chrpo" in names) == (not changes.get("skip"))
    assert ("compressor" in names) == (changes.get("compressor") == "train")
    for step, config in steps:
        if step.stage in ("sft", "chrpo"):
            config.check_processes(config.processes)
        if step.name == "chrpo":
            assert config.group % len(made.options.levels) == 0
    write_sharding(made)
    plan = planned(steps, made, assumptions(made, machine), machine)
    assert all(one.rows is None or one.rows.count() >= 1 for one in plan)
    assert memory_fault(steps, plan, machine) is None
    fault = memory_fault(steps, plan, Machine(1, 0.1, 0, "", 0.1, False, 1.0))
    assert fault is not None and "GiB, and this machine has 0.1: " in fault
    worst = max(plan, key=lambda one: one.cost.gib).name
    config = next(config for step, config in steps if step.name == worst)
    assert ("--lora" in fault) == (config.lora is None)
    named = re.findall(rf"{worst}\.([a-z_.]+)", fault)
    assert len(named) == 3
    for path in named:
        reduce(getattr, path.split("."), config)


def test_weights_are_shared_out_as_by_the_file_for_stages_by_hand() -> None:
    file = Path(__file__).parents[2] / "training/configs/accelerate/fsdp2.yaml"
    assert yaml.safe_load(FSDP) == yaml.safe_load(file.read_text())


def test_hours_choose_steps_and_too_few_are_refused(tmp_path: Path) -> None:
    made = recipe(options(tmp_path))

    def plan(effort: Effort) -> Any:
        steps = configured(made, effort, config_class)
        return planned(steps, made, assumptions(made, CPU), CPU)

    whole = fitting(made, plan, None)
    assert whole == Effort.of(made.preset, 1.0)
    hours = hours_of(plan(whole))
    less = fitting(made, plan, hours / 2)
    assert hours_of(plan(less)) <= hours / 2 and less.steps < whole.steps
    with pytest.raises(ConfigError, match=r"--budget-hours 0.01: the least .* takes 0\.\d+ hours"):
        fitting(made, plan, 0.01)


def test_little_time_still_teaches_where_reasoning_ends(tmp_path: Path) -> None:
    made = recipe(options(tmp_path, rows(40)))
    train = made.data.sizes["train"] * len(made.options.levels)
    found = {s.name: c for s, c in configured(made, made.effort(0.005), config_class)}
    steps = found["sft-fixed"].epochs * train / found["sft-fixed"].global_batch
    assert FEWEST_STEPS <= steps < FEWEST_STEPS + 1
    assert made.effort(1.0) == Effort.of(made.preset, 1.0)
    few = recipe(options(tmp_path, rows(3)))
    assert few.effort(0.005).epochs == Effort.of(few.preset, 1.0).epochs


def test_one_setting_of_a_stage_can_be_changed(tmp_path: Path) -> None:
    made = recipe(options(tmp_path, set=["sft.max_steps=3", "sft-fixed.epochs=1", "mix.seed=9"]))
    found = {s.name: c for s, c in configured(made, Effort.of(made.preset, 1.0), config_class)}
    assert (found["sft"].max_steps, found["sft-fixed"].max_steps) == (3, None)
    assert found["sft-fixed"].epochs == 1 and found["mix"].seed == 9
    for text, message in (("sfd.epochs=1", "the stages are"), ("sft.epoch=1", "unknown setting")):
        bad = recipe(options(tmp_path, set=[text]))
        with pytest.raises(ConfigError, match=message):
            configured(bad, Effort.of(bad.preset, 1.0), config_class)


def test_what_is_spent_is_told_as_it_is_changed(tmp_path: Path) -> None:
    changes = ["sft-fixed.learning_rate=0.5", "sft-fixed.epochs=7", "reference-fixed.k=3",
               "reference-fixed.limit=9", "chrpo.steps=11", "evaluate.limit=null",
               "sft-fixed.batch=2", "sft-fixed.global_batch=6",
               "chrpo.learning_rate=0.25"]  # fmt: skip
    made = recipe(options(tmp_path, set=changes))
    steps = configured(made, Effort.of(made.preset, 1.0), config_class)
    assert effort_told(steps) == (
        "7 epochs on the levels, 9 problems measured with 3 replies per level, 11 steps of chrpo, "
        "all problems evaluated, at most"
    )
    told = preset_told(made.preset, steps)
    assert told.endswith(": 6 rows a step, 2 at a time, learning rate 0.5 (chrpo 0.25)")
    made = recipe(options(tmp_path, skip=["chrpo", "evaluate"], set=["sft-fixed.max_steps=5"]))
    steps = configured(made, Effort.of(made.preset, 1.0), config_class)
    assert effort_told(steps).startswith("5 steps on the levels, ")
    assert not {"chrpo", "evaluated"} & set(effort_told(steps).split())
    assert "chrpo" not in preset_told(made.preset, steps)


def test_a_few_steps_are_not_measured_and_saved_each(tmp_path: Path) -> None:
    made = recipe(options(tmp_path))
    for share, every, saved in ((0.02, 1, 5), (0.18, 2, 5), (1.0, 10, 5)):
        effort = Effort.of(made.preset, share)
        config = next(c for s, c in configured(made, effort, config_class) if s.name == "chrpo")
        assert (config.evaluation.every, config.checkpoint_every) == (every, saved)


@pytest.mark.parametrize(("model", "named"), [("mine", []), (None, ["--served-model-name"])])
def test_it_goes_on_as_the_server_of_its_checkpoint(
    tmp_path: Path, model: str | None, named: list[str]
) -> None:
    levels = [
        LevelCard(name=str(ratio), token=f"<L{n}>", token_id=n, ratio=ratio)
        for n, ratio in enumerate((0.5, 1.0))
    ]
    BudgetCard(
        tokenizer_hash="sha256:" + "0" * 64, base_model="base", model=model, instruction="Think.",
        levels=levels,
    ).save(tmp_path)  # fmt: skip
    became: list[list[str]] = []
    become_server(tmp_path, lambda _, command: became.append(command))
    assert became[0][2:5] == ["extracot_server.cli", "--model", str(tmp_path)]
    assert became[0][5:6] == named


def test_a_folder_goes_on_with_its_configurations_and_no_others(tmp_path: Path) -> None:
    made = options(tmp_path)
    data = read_data(made)
    assert recall(made, data.sha256) is None
    remember(made, data.sha256)
    assert recall(options(tmp_path, levels=[0.5, 1.0]), data.sha256) is None, "nothing was made"
    assert not (made.out / RUN).exists()
    whole = recipe(made)
    steps = configured(whole, Effort.of(whole.preset, 0.1), config_class)
    remember(made, data.sha256, steps)
    file = config_file(made.out, "sft")
    file.write_text(file.read_text() + "weight_decay: 0.5\n")
    kept = recall(made, data.sha256)
    assert kept is not None
    again = reload(made, kept, config_class)
    assert [step.name for step, _ in again] == [step.name for step, _ in steps]
    assert dict((s.name, c) for s, c in again)["sft"].weight_decay == 0.5
    with pytest.raises(StageError, match=r"with another --levels .*choose another folder"):
        recall(options(tmp_path, levels=[0.5, 1.0]), data.sha256)
    for flag, other in (("gpus", 2), ("device", "cpu")):  # which would change nothing by now
        with pytest.raises(StageError, match=rf"with another --{flag} "):
            recall(options(tmp_path, **{flag: other}), data.sha256)
    with pytest.raises(StageError, match=r"mine.jsonl has changed since"):
        recall(made, "sha256:other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(StageError, match="not empty and no run's folder"):
        recall(options(tmp_path, out=tmp_path / "other"), data.sha256)


def test_packages_trackers_and_room_are_looked_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = options(tmp_path, report_to=["wand"])
    with pytest.raises(ConfigError, match="no tracker 'wand' \\(did you mean 'wandb'"):
        checks.check_packages(made, "own")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"trackio is not installed; .*extracot\[trackio\]"):
        checks.check_packages(options(tmp_path, report_to=["trackio"]), "own")
    with pytest.raises(StageError, match="pass --skip evaluate"):
        checks.check_packages(options(tmp_path), "own")
    with pytest.raises(StageError, match="the model has to reason for itself"):
        checks.check_packages(options(tmp_path), "vllm")
    checks.check_packages(options(tmp_path, skip=["evaluate"]), "own")
    with pytest.raises(StageError, match="--serve: vllm is not installed"):
        checks.check_packages(options(tmp_path, skip=["evaluate"], serve=True), "own")
    checks.check_disk(recipe(options(tmp_path)))
    huge = replace(SMOL, weights=1e15)
    with pytest.raises(StageError, match=r"GiB are free there, and models and checkpoints take"):
        checks.check_disk(recipe(options(tmp_path), shape=huge))
