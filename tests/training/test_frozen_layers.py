"""Frozen lower layers: what learns, what is skipped, and states that are kept in a file."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from extracot_training.errors import ConfigError
from extracot_training.pipeline.checkpoints import LOG, log_lines
from extracot_training.pipeline.records import read_rows
from extracot_training.policy.frozen_layers import FrozenLayers
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.state_cache import StateCache
from extracot_training.stages.sft import stage as sft
from extracot_training.stages.sft.known_states import KnownStates
from tests.training.test_reply_loss import batch, small
from tests.training.tiny_policy import make_all, make_base, sft_config

DEEP = {"width": 32, "layers": 3, "heads": 1, "head_dim": 32, "feed_forward": 48}
FROZEN = {"freeze_layers": 2, "new_rows": "words"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("frozen")
    make_all(root)
    shutil.rmtree(root / "base")
    make_base(root, model=DEEP)
    return root


@pytest.fixture(scope="module")
def plain(root: Path) -> Path:
    """Two layers frozen, nothing kept: two epochs, two passes a step."""
    return sft.run(sft_config(root, out=root / "plain", **FROZEN)).folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in log_lines(folder / LOG)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "gemma2", "gpt_neox", "qwen3_moe"])
def test_the_layers_above_go_on_from_kept_states(name: str) -> None:
    model = small(name).eval()
    inputs, _ = batch()
    whole = model(**inputs).logits
    frozen = FrozenLayers(model, 1)
    states = frozen.below(model, inputs)
    assert states.dtype == torch.bfloat16 and states.shape == (3, 9, 64)
    with frozen.going_on_from(states):
        kept = model(**inputs).logits
    seen = inputs["attention_mask"].bool()
    assert torch.allclose(kept[seen], whole[seen], atol=0.02)
    with frozen.going_on_from(states * 0):
        assert not torch.allclose(model(**inputs).logits[seen], whole[seen], atol=0.02)
    kept.sum().backward()
    trained = {id(value) for value in model.parameters() if value.grad is not None}
    assert trained and not trained & {id(value) for value in frozen.parameters}


def test_what_lies_below_stays_as_it_was(root: Path, plain: Path) -> None:
    before, after = weights(root / "base"), weights(plain)
    changed = {
        name for name, old in before.items() if not torch.equal(old, after[name][: len(old)])
    }
    assert changed and all(".layers.2." in name or name == "model.norm.weight" for name in changed)


def test_kept_states_give_the_same_training(root: Path, plain: Path, tmp_path: Path) -> None:
    kept = sft_config(root, out=tmp_path / "a", cache_states={"folder": tmp_path / "s"}, **FROZEN)
    folder = sft.run(kept).folder
    assert losses(folder) == pytest.approx(losses(plain), abs=2e-3) and len(losses(folder)) > 4
    first, second = weights(folder), weights(plain)
    assert all(torch.allclose(first[name], second[name], atol=2e-3) for name in first)
    states = next((tmp_path / "s").glob("*.bfloat16"))
    rows = {(*row.prompt_ids, *row.reply_ids) for row in read_rows(root / "mix", MixedRow)}
    assert states.stat().st_size == 2 * 32 * sum(map(len, rows))


def test_every_distinct_row_goes_through_the_frozen_layers_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [0]
    below = FrozenLayers.below

    def counted(self: FrozenLayers, model: Any, inputs: Any) -> torch.Tensor:
        gone[0] += len(inputs["input_ids"])
        return below(self, model, inputs)

    monkeypatch.setattr(FrozenLayers, "below", counted)
    shared = {"folder": tmp_path / "s"}
    rows = {(*row.prompt_ids, *row.reply_ids) for row in read_rows(root / "mix", MixedRow)}
    sft.run(sft_config(root, out=tmp_path / "a", cache_states=shared, **FROZEN))
    assert gone[0] == len(rows) + 1  # one is tried when layers are frozen
    # Another training on the same rows and layers finds them all.
    again = sft_config(root, out=tmp_path / "b", cache_states=shared, learning_rate=0.01, **FROZEN)
    sft.run(again)
    assert gone[0] == len(rows) + 2


def test_rows_beyond_the_room_are_computed_each_time(
    root: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    little = {"gigabytes": 2e-5}
    folder = sft.run(sft_config(root, out=tmp_path / "a", cache_states=little, **FROZEN)).folder
    assert losses(folder) == pytest.approx(losses(plain), abs=2e-3)
    assert "cache_states: 0.00 GB for" in capsys.readouterr().err
    assert not list(folder.rglob("*.bfloat16"))


def test_a_cut_run_goes_on_with_kept_states(root: Path, plain: Path, tmp_path: Path) -> None:
    shared = {"cache_states": {"gigabytes": 1}, **FROZEN}
    config = sft_config(root, out=tmp_path / "a", **shared)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sft, "save", _interrupted)
        sft.run(config)
    sft.run(config)
    assert losses(tmp_path / "a") == pytest.approx(losses(plain), abs=2e-3)


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_passes_of_fewer_tokens_give_the_same_training(root: Path, tmp_path: Path) -> None:
    whole = sft.run(sft_config(root, out=tmp_path / "a", max_steps=3)).folder
    parts = sft.run(sft_config(root, out=tmp_path / "b", max_steps=3, pass_tokens=64)).folder
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)
    first, second = weights(whole), weights(parts)
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)


def test_adapters_are_above_the_frozen_layers(root: Path, tmp_path: Path) -> None:
    lora = {"rank": 2}
    made = sft.run(sft_config(root, out=tmp_path / "a", max_steps=2, lora=lora, **FROZEN)).folder
    names = load_file(made / "adapter" / "adapter_model.safetensors").keys()
    assert {name.split(".layers.")[1][0] for name in names if ".layers." in name} == {"2"}
    before, after = weights(root / "base"), weights(made)
    same = [name for name, old in before.items() if torch.equal(old, after[name][: len(old)])]
    assert any("embed_tokens" in name for name in same) and any(".layers.0." in n for n in same)


def test_a_full_disk_is_said_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ConfigError, match=r"'cache_states': no room for .*cache_states.gigabytes"):
        StateCache(tmp_path, [[1, 2]], width=4, limit=1e9, key="k")
    assert not list(tmp_path.iterdir())


def test_states_count_once_they_are_flushed(tmp_path: Path) -> None:
    def cache(key: str = "k") -> StateCache:
        return StateCache(tmp_path, [[1, 2], [1, 2], [3]], width=4, limit=1e9, key=key)

    ids, states = torch.tensor([1, 2]), torch.randn(2, 4).to(torch.bfloat16)
    first = cache()
    assert (first.rows, first.distinct, first.bytes) == (2, 2, 3 * 4 * 2)
    first.write(ids, states)
    assert torch.equal(first.read(ids), states) and cache().known == 0
    first.flush()
    assert torch.equal(cache().read(ids), states) and cache().known == 1
    assert cache("other").known == 0 and first.read(torch.tensor([3])) is None
    first.write(torch.tensor([9]), states[:1])  # no row of these
    assert first.known == 1


def test_dropout_does_not_reach_the_frozen_layers() -> None:
    model = small("gpt2", attn_pdrop=0.5, embd_pdrop=0.5, resid_pdrop=0.5).train()
    known = KnownStates(FrozenLayers(model, 1))
    inputs, _ = batch()
    assert torch.equal(known.states(model, inputs), known.states(model, inputs)) and model.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cache_states": {}}, "cache_states: want freeze_layers"),
        ({"freeze_layers": -1}, "greater than or equal to 0"),
        ({"cache_states": {"gigabytes": 0}, "freeze_layers": 1}, "greater than 0"),
        ({"pass_tokens": 2}, "greater than or equal to 16"),
    ],
)
def test_wrong_settings_are_refused(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sft_config(root, **settings)


def test_what_this_model_cannot_do_is_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'freeze_layers': want at most 2, for the model has 3"):
        sft.run(sft_config(root, out=tmp_path / "a", **FROZEN | {"freeze_layers": 3}))
    with pytest.raises(ConfigError, match=r"'new_rows': want words with freeze_layers"):
        sft.run(sft_config(root, out=tmp_path / "b", freeze_layers=1))
    config = sft_config(root, cache_states={}, **FROZEN)
    with pytest.raises(ConfigError, match=r"'cache_states': want null with several processes"):
        config.check_processes(2)
