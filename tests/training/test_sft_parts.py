"""What stage sft is made of, without a training: its defaults, the order of rows, its files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from extracot_training.config.sft import SftConfig
from extracot_training.pipeline.checkpoints import LOG, cut_log, last_checkpoint, publish_folder
from extracot_training.stages.sft.stage import sft_arguments
from extracot_training.stages.sft.trainer import GroupedSampler


class Stop(Exception):
    """Stands for a crash."""


def test_the_paper_is_the_default() -> None:
    config = SftConfig(input=Path("mix"), model="m", out=Path("out"))
    arguments = sft_arguments(config.model_copy(update={"device": "cpu"}), Path("out"))
    assert (arguments.learning_rate, arguments.num_train_epochs) == (2e-5, 3.0)
    assert (arguments.weight_decay, arguments.warmup_steps) == (0.05, 0.05)
    assert arguments.lr_scheduler_type == "cosine"
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 16
    assert arguments.bf16
    assert (config.cutoff, arguments.max_length) == (6144, None)
    assert arguments.report_to == []


def test_the_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    lengths = [(7 * n) % 31 + 5 for n in range(103)]
    sampler = GroupedSampler(lengths, 4, seed=1)
    order = list(sampler)
    assert sorted(order) == list(range(103))
    assert list(GroupedSampler(lengths, 4, seed=1)) == order
    assert list(GroupedSampler(lengths, 4, seed=2)) != order
    sampler.set_epoch(1)
    assert list(sampler) != order
    sampler.set_epoch(0)
    assert list(sampler) == order


def test_batches_hold_rows_of_like_length() -> None:
    lengths = [(7 * n) % 61 + 5 for n in range(402)]

    def padding(order: list[int], size: int = 4) -> int:
        batches = [order[at : at + size] for at in range(0, len(order), size)]
        return sum(
            max(lengths[i] for i in b) * len(b) - sum(lengths[i] for i in b) for b in batches
        )

    grouped = list(GroupedSampler(lengths, 4, seed=1))
    loose = list(GroupedSampler(lengths, 4, seed=1, by_length=False))
    assert sorted(loose) == sorted(grouped)
    assert padding(grouped) < 0.2 * padding(loose)
    firsts = [max(lengths[i] for i in grouped[at : at + 4]) for at in range(0, 400, 4)]
    assert any(a < b for a, b in pairwise(firsts)) and any(a > b for a, b in pairwise(firsts))


def test_a_torn_log_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / LOG
    log.write_text('{"step": 2, "loss": 1}\n{"step": 4, "loss": 1}\n{"step": 6, "lo')
    cut_log(log, 2)
    assert log.read_text() == '{"step": 2, "loss": 1}\n'


def test_a_model_folder_appears_at_once(tmp_path: Path) -> None:
    (tmp_path / ".model.tmp").mkdir()
    (tmp_path / ".model.tmp" / "stale").touch()

    def fail(folder: Path) -> None:
        (folder / "config.json").touch()
        raise Stop

    with pytest.raises(Stop):
        publish_folder(tmp_path, fail)
    assert not (tmp_path / "config.json").exists()
    publish_folder(tmp_path, lambda folder: (folder / "config.json").touch())
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_no_model_of_half_a_checkpoint(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "whole").touch()
    (tmp_path / "checkpoint-11").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-11").exists()
    assert last_checkpoint(tmp_path / "nowhere") is None
