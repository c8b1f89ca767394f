"""Fine-tuning: what the loss counts, what comes out, and going on after any kind of stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from extracot.errors import ControlTokenError
from extracot_training.cli import main
from extracot_training.errors import RowError, StageError
from extracot_training.pipeline.checkpoints import CHECKPOINTS, LOG, LossError, last_checkpoint
from extracot_training.pipeline.records import read_rows
from extracot_training.pipeline.stage import Status
from extracot_training.policy.adapters import adapter_config
from extracot_training.policy.loading import load_policy_model
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.sft.stage import run, sft_arguments
from extracot_training.stages.sft.trainer import BudgetSftTrainer, GroupedSampler, as_dataset
from tests.training.tiny_policy import make_all, make_base, sft_config

LORA = {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sft")
    make_all(root)
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    """All weights, never interrupted."""
    return run(sft_config(root)).folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def equal(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def trainer_for(root: Path, folder: Path, **settings: Any) -> BudgetSftTrainer:
    config = sft_config(root, out=folder, **settings)
    prompt = PromptSettings.load(config.input)
    model, tokenizer, tokens = load_policy_model(config.model, prompt, seed=config.seed)
    rows = list(read_rows(config.input, MixedRow))
    return BudgetSftTrainer(
        model=model,
        args=sft_arguments(config, folder),
        train_dataset=as_dataset(rows),
        processing_class=tokenizer,
        sampler=GroupedSampler([row.length for row in rows], config.batch, seed=config.seed),
        plain_loss=True,
        peft_config=adapter_config(config.lora, model, tokens.all) if config.lora else None,
    )


def test_the_folder_is_a_model_with_renderer_and_tokenizer(root: Path, trained: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    mixed = AutoTokenizer.from_pretrained(root / "mix" / "tokenizer")
    assert tokenizer.get_vocab() == mixed.get_vocab()
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert PromptSettings.load(trained) == PromptSettings.load(root / "mix")
    assert model.generation_config.eos_token_id
    left = {path.name for path in trained.iterdir()}
    assert not left & {CHECKPOINTS, ".model.tmp", "training_args.bin", "README.md"}
    assert not list(trained.rglob("*.bin")) + list(trained.rglob("*.pt"))


def test_it_learns(trained: Path) -> None:
    losses = [line["loss"] for line in log_of(trained)]
    assert losses[-1] < 0.9 * losses[0]
    assert [line["step"] for line in log_of(trained)] == list(range(1, len(losses) + 1))


def test_the_first_loss_is_that_of_reply_tokens_alone(root: Path, trained: Path) -> None:
    config = sft_config(root)
    rows = list(read_rows(config.input, MixedRow))
    model, _, _ = load_policy_model(config.model, PromptSettings(), seed=config.seed)
    sampler = GroupedSampler([row.length for row in rows], config.batch, seed=config.seed)
    step = [rows[index] for index in list(sampler)[: config.batch * config.accumulation]]
    total, count = 0.0, 0
    with torch.no_grad():
        for row in step:
            ids = torch.tensor([row.prompt_ids + row.reply_ids])
            predicted = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
            chosen = predicted.gather(1, ids[0, 1:, None])[len(row.prompt_ids) - 1 :]
            total, count = total - chosen.sum().item(), count + len(row.reply_ids)
    assert log_of(trained)[0]["loss"] == pytest.approx(total / count, rel=1e-4)


def test_the_plain_loss_is_the_fused_one(root: Path, tmp_path: Path) -> None:
    trainer = trainer_for(root, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(4)])
    found = []
    for plain in (True, False):
        trainer._plain_loss = plain
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=97)
        loss.backward()
        found.append((loss.item(), trainer.model.model.layers[0].mlp.up_proj.weight.grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)


class Stop(Exception):
    """Stands for a crash."""


def crash_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    inner, seen = BudgetSftTrainer.training_step, []

    def training_step(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(seen) == steps:
            raise Stop
        seen.append(1)
        return inner(self, *args, **kwargs)

    patch.setattr(BudgetSftTrainer, "training_step", training_step)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_crashed_run_goes_on_to_the_same_weights(
    root: Path, tmp_path: Path, lora: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"lora": lora, "max_steps": 11}
    whole = run(sft_config(root, out=tmp_path / "whole", **settings)).folder
    config = sft_config(root, out=tmp_path / "cut", **settings)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(15, patch)  # in the middle of step 8; the last checkpoint is of step 6
        run(config)
    checkpoints = config.out / CHECKPOINTS
    newest = last_checkpoint(checkpoints)
    assert newest is not None and newest.name == "checkpoint-6"
    # A checkpoint torn while it was written: newer, and not whole.
    torn = checkpoints / "checkpoint-8"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    assert run(config).status is Status.DONE
    assert equal(whole, config.out)
    assert log_of(whole) == log_of(config.out)
    assert not equal(whole, root / "base")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(root: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 40, "checkpoint_every": 4}
    config = sft_config(root, out=tmp_path / "cut", **settings)
    flags = [f"{k}={json.dumps(v)}" for k, v in config.model_dump(mode="json").items()]
    command = [sys.executable, "-m", "extracot_training.cli", "sft"]
    command += [flag for setting in flags for flag in ("--set", setting)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            if list(config.out.glob(f"{CHECKPOINTS}/checkpoint-*/whole")):
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert json.loads((config.out / "stage.json").read_text())["finished"] is None
    assert not (config.out / "config.json").exists(), "not a model before it is done"
    outcome = run(config)
    assert outcome.counts["steps"] == 40
    whole = run(sft_config(root, out=tmp_path / "whole", **settings)).folder
    assert equal(whole, config.out)
    assert [line["step"] for line in log_of(config.out)] == list(range(1, 41))


@pytest.fixture(scope="module")
def adapted(root: Path) -> Path:
    return run(sft_config(root, out=root / "lora", lora={**LORA, "dropout": 0.0})).folder


def test_lora_trains_adapters_and_the_new_rows_and_keeps_matrices_tied(
    root: Path, adapted: Path
) -> None:
    prompt = PromptSettings.load(root / "mix")
    before, _, tokens = load_policy_model(str(root / "base"), prompt, seed=3)
    after = AutoModelForCausalLM.from_pretrained(adapted)
    assert after.get_input_embeddings().weight is after.get_output_embeddings().weight
    moved = (
        (after.get_input_embeddings().weight - before.get_input_embeddings().weight)
        .abs().sum(dim=1)
    )  # fmt: skip
    assert set(moved.nonzero().flatten().tolist()) == set(tokens.all)
    names = {
        name for name, value in after.named_parameters()
        if not torch.equal(value, before.get_parameter(name)) and "embed" not in name
    }  # fmt: skip
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == {"q_proj", "v_proj"}


def test_the_adapter_and_its_rows_make_the_merged_model(root: Path, adapted: Path) -> None:
    from peft import PeftModel

    saved = load_file(adapted / "adapter" / "adapter_model.safetensors")
    prompt = PromptSettings.load(root / "mix")
    base, _, tokens = load_policy_model(str(root / "base"), prompt, seed=3)
    assert max(value.shape[0] for value in saved.values()) < base.config.vocab_size
    rows = [value for name, value in saved.items() if "token" in name]
    assert [tuple(value.shape) for value in rows] == [(len(tokens.all), base.config.hidden_size)]
    joined = PeftModel.from_pretrained(base, adapted / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(adapted).eval()
    ids = torch.tensor([[*tokens.all, 300, 301, 302]])
    with torch.no_grad():
        assert torch.allclose(joined(input_ids=ids).logits, merged(input_ids=ids).logits, atol=1e-5)


def test_training_goes_on_from_an_earlier_stage(root: Path, trained: Path, tmp_path: Path) -> None:
    config = sft_config(
        root, model=str(trained), out=tmp_path, max_steps=1, learning_rate=1e-9, warmup=0
    )
    run(config)
    first, second = weights(trained), weights(tmp_path)
    assert first.keys() == second.keys()
    for name in first:  # above all: no row is initialised anew
        assert torch.allclose(first[name], second[name], atol=1e-6), name


def test_a_loss_that_is_no_number_stops_the_run(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = sft_config(root, out=tmp_path, learning_rate=1e30, schedule="linear", warmup=0)
    with pytest.raises(LossError, match=r"step \d+: the loss is (nan|inf)"):
        run(config)
    assert not (tmp_path / "config.json").exists()
    flags = [f"{k}={json.dumps(v)}" for k, v in config.model_dump(mode="json").items()]
    code = main(["sft", "--force", *(x for flag in flags for x in ("--set", flag))])
    assert code == 1
    assert "lower learning_rate" in capsys.readouterr().err


def bent(root: Path, target: Path, change: dict[str, Any]) -> Path:
    """The mixture with its second row changed, which is of another problem then."""
    target.mkdir()
    for name in ("tokenizer", "renderer.json"):
        (target / name).symlink_to(root / "mix" / name)
    lines = [json.loads(line) for line in (root / "mix" / "rows.jsonl").read_text().splitlines()]
    own = {"problem_id": "bent", **change}
    lines[1] = {k: v for k, v in (lines[1] | own).items() if v != "gone"}
    (target / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return target


def test_rows_without_level_or_ids_stop_it_before_any_step(root: Path, tmp_path: Path) -> None:
    for number, (change, message) in enumerate(
        [
            ({"level": "gone"}, "field 'level'"),
            ({"reply_ids": "gone"}, "field 'reply_ids'"),
            ({"prompt_ids": []}, "field 'prompt_ids'"),
        ]
    ):
        folder = bent(root, tmp_path / f"mix{number}", change)
        with pytest.raises(RowError, match=rf"rows\.jsonl:2: {message}"):
            run(sft_config(root, input=folder, out=tmp_path / f"out{number}"))


def test_rows_that_do_not_fit_the_tokenizer_stop_it(root: Path, tmp_path: Path) -> None:
    level = {"kind": "level", "level": 0.4}
    for number, (change, message) in enumerate(
        [
            ({"prompt_ids": [999_999]}, "id 999999, but the model has"),
            ({**level, "reply_ids": [1, 2, 3]}, "begins with id 1, not with level 0.4's"),
            ({**level, "level": 0.5}, "level 0.5 is not in renderer.json"),
        ]
    ):
        folder = bent(root, tmp_path / f"mix{number}", change)
        with pytest.raises(StageError, match=message):
            run(sft_config(root, input=folder, out=tmp_path / f"out{number}"))


def test_another_models_tokenizer_stops_it(root: Path, tmp_path: Path) -> None:
    make_base(root, out=tmp_path / "other", vocabulary={"numbers": 300})
    with pytest.raises(ControlTokenError, match="tokens differ"):
        run(sft_config(root, model=str(tmp_path / "other"), out=tmp_path / "out"))


def test_rows_over_the_cutoff_are_counted_and_left_out(root: Path, tmp_path: Path) -> None:
    rows = list(read_rows(root / "mix", MixedRow))
    cutoff = sorted(row.length for row in rows)[-5] - 1
    over = sum(row.length > cutoff for row in rows)
    counts = run(sft_config(root, out=tmp_path / "a", cutoff=cutoff, max_steps=1)).counts
    assert counts["over_cutoff"] == over >= 5
    assert counts["rows"] == len(rows) - over
    with pytest.raises(StageError, match="no row of at most 16 tokens"):
        run(sft_config(root, out=tmp_path / "b", cutoff=16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"packing": True}, "only flash attention keeps apart"),
        ({"packing": True, "attention": "flash_attention_2"}, "which no CPU has"),
        ({"learning_rat": 1.0}, "Extra inputs"),
        ({"lora": {"r": 4}}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sft_config(root, **settings)


def test_checkpointing_of_gradients_changes_nothing(root: Path, tmp_path: Path) -> None:
    one = run(sft_config(root, out=tmp_path / "a", max_steps=2)).folder
    two = run(sft_config(root, out=tmp_path / "b", max_steps=2, gradient_checkpointing=True)).folder
    first, second = weights(one), weights(two)
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert AutoModelForCausalLM.from_pretrained(two).config.use_cache


def test_bf16_trains_and_keeps_float32_weights(root: Path, tmp_path: Path) -> None:
    folder = run(sft_config(root, out=tmp_path / "a", max_steps=2, precision="bf16")).folder
    assert {value.dtype for value in weights(folder).values()} == {torch.float32}
    pure = run(sft_config(root, out=tmp_path / "b", max_steps=2, precision="pure_bf16")).folder
    assert {value.dtype for value in weights(pure).values()} == {torch.bfloat16}


@pytest.mark.parametrize(("computes", "same"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_processor_computes_in(
    computes: bool, same: str, root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place = "extracot_training.policy.precision.computes_bfloat16"
    monkeypatch.setattr(place, lambda: computes)
    auto = sft_config(root, out=tmp_path / "a", max_steps=1, precision="auto")
    told = capsys.readouterr().err if run(auto).folder else ""
    assert f"precision: {same}" in told
    named = run(sft_config(root, out=tmp_path / "b", max_steps=1, precision=same)).folder
    first, second = weights(auto.out), weights(named)
    assert all(torch.equal(first[name], second[name]) for name in first)
    monkeypatch.setattr(place, lambda: not computes)
    assert run(auto).status == Status.UP_TO_DATE
    manifest = auto.out / "stage.json"
    cut = json.loads(manifest.read_text()) | {"finished": None}
    manifest.write_text(json.dumps(cut))
    with pytest.raises(StageError, match=f'made with other precision .*"{same}", now'):
        run(auto)
