"""Nothing that decides a result is outside of what a stage knows its work by, and a run that goes
on does what an uncut one would: not a step more, and as often as it is told now."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extracot_training.config.sft import SftConfig
from extracot_training.errors import StageError
from extracot_training.pipeline import checkpoints
from extracot_training.pipeline.checkpoints import CHECKPOINTS, LOG
from extracot_training.pipeline.records import read_rows
from extracot_training.pipeline.settings import StageConfig
from extracot_training.pipeline.stage import Conditions, Manifest, Status, run_stage
from extracot_training.policy import trainer as policy_trainer
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.model_inputs import model_inputs, tokenizer_inputs
from extracot_training.policy.pretrained import PretrainedError
from extracot_training.policy.trainer import conditions_of
from extracot_training.stages.mix import stage as mixture
from extracot_training.stages.sft.stage import run
from extracot_training.stages.sft.trainer import BudgetSftTrainer
from tests.training.tiny_chrpo import chrpo_config
from tests.training.tiny_policy import make_all, make_base, mix_config, sft_config


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decides")
    make_all(root)
    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, without the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def on_hub(hub: Path, name: str, folder: Path) -> str:
    """``folder`` as the cache has a model of this name."""
    place = hub / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot, ignore=shutil.ignore_patterns("stage.json", "report.*"))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    return name


def another_base(root: Path, target: Path) -> Path:
    """Other weights, the same tokenizer."""
    return make_base(root, out=target, seed=5)


def test_another_hub_base_is_another_run(root: Path, tmp_path: Path, hub: Path) -> None:
    one = on_hub(hub, "ours/one", root / "base")
    two = on_hub(hub, "ours/two", another_base(root, tmp_path / "other"))
    config = sft_config(root, model=one, out=tmp_path / "out", max_steps=1)
    assert run(config).status is Status.DONE
    with pytest.raises(StageError, match=r"made with other input 'model model.safetensors'"):
        run(config.model_copy(update={"model": two}))
    # The same weights under another name are the same base.
    local = config.model_copy(update={"model": str(root / "base")})
    assert run(local).status is Status.UP_TO_DATE


def test_a_cut_run_does_not_go_on_with_another_base(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sft_config(root, out=tmp_path / "out", max_steps=4)
    cut(config, monkeypatch, after=3)
    other = another_base(root, tmp_path / "other")
    with pytest.raises(StageError, match=r"input 'model model.safetensors'"):
        run(config.model_copy(update={"model": str(other)}))


def cut(config: SftConfig, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    step = BudgetSftTrainer.training_step

    def killed(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == after:
            raise KeyboardInterrupt
        loss: torch.Tensor = step(self, *args, **kwargs)
        return loss

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(BudgetSftTrainer, "training_step", killed)
        run(config)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "generation_config.json", "chat_template.jinja",
             "tokenizer_config.json", "special_tokens_map.json", "model.safetensors"]
)  # fmt: skip
def test_files_of_a_model_are_inputs(name: str, tmp_path: Path) -> None:
    for file in ("config.json", "tokenizer.json", "log.jsonl", "training_args.bin", name):
        (tmp_path / file).write_text("{}")
    wanted = {"model config.json", "model tokenizer.json", f"model {name}"}
    assert model_inputs(str(tmp_path)).keys() == wanted
    tokenizer = {role for role in wanted if "token" in role or "template" in role}
    assert tokenizer_inputs(str(tmp_path)).keys() == tokenizer


def test_files_on_the_hub_are_inputs_shard_by_shard(tmp_path: Path, hub: Path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": dict(zip("ab", shards, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "tokenizer.json", *shards):
        (folder / name).write_text(name)
    found = model_inputs(on_hub(hub, "ours/sharded", folder))
    assert found.keys() == {f"model {path.name}" for path in folder.iterdir()}
    with pytest.raises(PretrainedError, match="'ours/none': no folder here, and no weights"):
        model_inputs("ours/none")


def test_an_adapter_has_its_bases_files_too(root: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(root / "base")})
    )
    (tmp_path / "adapter_model.safetensors").write_text("")
    found = model_inputs(str(tmp_path))
    assert {"model adapter_model.safetensors", "model base model.safetensors"} <= found.keys()


def test_what_an_older_version_did_not_know_is_believed(root: Path, tmp_path: Path) -> None:
    config = sft_config(root, out=tmp_path / "out", max_steps=1)
    run(config)
    path = config.out / "stage.json"
    told = json.loads(path.read_text())
    for name in ("always", "while_cut", "format"):
        del told[name]
    del told["inputs"]["model tokenizer_config.json"]
    path.write_text(json.dumps(told))
    assert run(config).status is Status.UP_TO_DATE
    other = another_base(root, tmp_path / "other")
    with pytest.raises(StageError, match=r"input 'model model.safetensors'"):
        run(config.model_copy(update={"model": str(other)}))
    path.write_text(json.dumps(told | {"format": 2}))
    with pytest.raises(StageError, match=r"input 'model tokenizer_config.json'"):
        run(config)


class Plain(StageConfig):
    """No setting but the folder."""


def test_a_cut_run_goes_on_with_as_many_processes_only(tmp_path: Path) -> None:
    config = Plain(out=tmp_path / "out")

    def on(processes: int, rows: int, *, fails: bool = False) -> Status:
        def work(stage: Any) -> dict[str, Any]:
            stage.rows.write_text("row\n")
            if fails:
                raise StageError("cut")
            return {}

        conditions = Conditions({"rows per step": rows}, {"processes": processes})
        return run_stage("plain", config, {}, work, conditions=conditions).status

    with pytest.raises(StageError, match="cut"):
        on(2, 16, fails=True)
    with pytest.raises(StageError, match=r"made with other processes \(2, now 1\); pass --force"):
        on(1, 16)
    assert on(2, 16) is Status.DONE
    # It is finished: how it was shared out is of no account, how much was learned from at once is.
    assert on(1, 16) is Status.UP_TO_DATE
    with pytest.raises(StageError, match=r"made with other rows per step \(16, now 8\)"):
        on(1, 8)


def test_what_is_learned_from_at_once_decides(root: Path, tmp_path: Path) -> None:
    each = sft_config(root)
    together = sft_config(root, global_batch=16)
    assert conditions_of(each, 1).always == {"rows per step": 8}
    assert conditions_of(each, 2).always == {"rows per step": 16}
    assert [conditions_of(together, n).always["rows per step"] for n in (1, 2, 4)] == [16] * 3
    assert conditions_of(together, 2).while_cut == {"processes": 2, "sharding": "NO"}
    settings: dict[str, Any] = {"global_prompts": 8, "replay": {"rows": tmp_path, "batch": 3}}
    chrpo = conditions_of(chrpo_config(tmp_path, **settings), 2).always
    assert chrpo == {"problems per step": 8, "replayed rows per step": 6}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


@pytest.mark.parametrize("when", ["saving", "cleaning"])
def test_killed_after_the_last_step_it_takes_no_more(
    when: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"max_steps": 5, "checkpoint_every": 2}  # no whole epoch
    whole = run(sft_config(root, out=tmp_path / "whole", **settings))
    config = sft_config(root, out=tmp_path / "cut", **settings)

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if when == "saving":
            patch.setattr(policy_trainer, "publish_folder", killed)
        else:  # the folder says that it is done before what could go on is removed
            patch.setattr("extracot_training.policy.trainer.shutil.rmtree", forgetful(killed))
        run(config)
    monkeypatch.setattr(BudgetSftTrainer, "training_step", killed)
    again = run(config)
    assert again.counts == whole.counts and again.counts["steps"] == 5
    first, second = weights(whole.folder), weights(config.out)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (config.out / LOG).read_text() == (whole.folder / LOG).read_text()
    assert not (config.out / CHECKPOINTS).exists()


def forgetful(killed: Any) -> Any:
    """``rmtree`` that is killed where it would remove all checkpoints."""
    remove = shutil.rmtree

    def rmtree(path: Path, **kwargs: Any) -> None:
        if Path(path).name == CHECKPOINTS:
            killed()
        remove(path, **kwargs)

    return rmtree


def test_intervals_are_those_of_today(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sft_config(root, out=tmp_path / "out", max_steps=12, checkpoint_every=4)
    cut(config, monkeypatch, after=5)
    saved: list[int] = []
    whole = checkpoints.mark_whole

    def noted(folder: Path, step: int) -> None:
        saved.append(step)
        whole(folder, step)

    monkeypatch.setattr(policy_trainer, "mark_whole", noted)
    run(config.model_copy(update={"checkpoint_every": 3, "log_every": 2}))
    steps = [json.loads(line)["step"] for line in (config.out / LOG).read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 6, 8, 10, 12]
    assert saved == [6, 9, 12]


DATED = "{{ strftime_now('%d %B %Y') }} "


def test_the_day_in_a_template_is_a_setting(root: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(root / "base", base)
    template = base / "chat_template.jinja"
    template.write_text(DATED + template.read_text())
    config = mix_config(root, model=str(base), out=tmp_path / "mix", prompt={"day": "2019-02-03"})
    folder = mixture.run(config).folder
    row = next(iter(read_rows(folder, MixedRow)))
    tokenizer = mixture.load_policy_tokenizer(str(base), config.prompt)[0]
    assert tokenizer.decode(row.prompt_ids).replace(" ", "").startswith("03February2019")
    assert json.loads((folder / "renderer.json").read_text())["day"] == "2019-02-03"
    with pytest.raises(StageError, match="settings: prompt"):
        mixture.run(config.model_copy(update={"prompt": config.prompt.model_copy(
            update={"day": date(2019, 2, 4)})}))  # fmt: skip


def test_manifests_say_how_the_run_was_shared_out(root: Path, tmp_path: Path) -> None:
    done = run(sft_config(root, out=tmp_path / "out", max_steps=1))
    told = Manifest.load(done.folder)
    assert told is not None and told.while_cut["processes"] == 1
    assert told.always == {"rows per step": 8}
