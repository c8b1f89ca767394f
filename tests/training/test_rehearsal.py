"""What fails only at saving is tried before the first step, and what can be mended is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from extracot_training.errors import ConfigError
from extracot_training.policy import trainer
from extracot_training.policy.pretrained import PretrainedError, open_causal_lm, open_twin
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.policy.rehearsal import PLACE, RehearsalError, rehearse_saving
from extracot_training.policy.training_settings import LoraSettings
from extracot_training.stages.sft.stage import run
from extracot_training.stages.sft.trainer import BudgetSftTrainer
from tests.training.tiny_policy import make_all, sft_config

LORA = LoraSettings(rank=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rehearsal")
    make_all(root)
    return root


def saying(root: Path, target: Path, **generation: Any) -> Path:
    """The base, with another ``generation_config.json``."""
    shutil.copytree(root / "base", target)
    (target / "generation_config.json").write_text(json.dumps(generation))
    return target


def never(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    raise AssertionError("a step was trained")


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["full", "lora"])
def test_a_base_that_names_a_temperature_alone_is_trained_and_saved(
    root: Path, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    told = {"temperature": 0.6, "top_p": 0.95}
    base = saying(root, tmp_path / "base", **told)
    done = run(sft_config(root, model=str(base), out=tmp_path / "out", max_steps=1, lora=lora))
    kept = json.loads((done.folder / "generation_config.json").read_text())
    assert {key: kept.get(key) for key in (*told, "do_sample")} == {**told, "do_sample": True}
    assert not (done.folder / PLACE).exists()


def test_what_a_training_has_saved_is_not_tried_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(trainer, "rehearse_saving", lambda name, *_, **__: tried.append(name))
    first = run(sft_config(root, out=tmp_path / "first", max_steps=1)).folder
    more = {"model": str(first), "max_steps": 1}
    run(sft_config(root, out=tmp_path / "second", **more))
    assert tried == [str(root / "base")]
    run(sft_config(root, out=tmp_path / "adapted", lora={"rank": 2}, **more))
    assert tried == [str(root / "base"), str(first)], "adapters are merged: that is new"


@pytest.mark.parametrize(
    ("told", "saved"),
    [
        ({"early_stopping": True}, {"early_stopping": None, "do_sample": None}),
        ({"length_penalty": 2.0, "top_k": 9}, {"top_k": 9, "do_sample": True}),
        ({"pad_token_id": -1, "temperature": 0.5}, {"temperature": 0.5, "do_sample": True}),
    ],
    ids=["early-stopping", "length-penalty", "pad"],
)
def test_what_is_said_in_vain_is_left_out(
    root: Path, tmp_path: Path, told: dict[str, Any], saved: dict[str, Any]
) -> None:
    base = saying(root, tmp_path / "base", **told)
    open_causal_lm(str(base)).save_pretrained(tmp_path / "saved")
    kept = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert {name: kept.get(name) for name in saved} == saved


def test_settings_that_no_library_loads_are_told(root: Path, tmp_path: Path) -> None:
    base = saying(root, tmp_path / "base", num_return_sequences=4)
    with pytest.raises(PretrainedError, match="num_return_sequences"):
        rehearse_saving(str(base), PromptSettings(), tmp_path)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_what_cannot_be_saved_is_one_line_before_the_first_step(
    root: Path, tmp_path: Path, lora: LoraSettings | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ValueError("flags are invalid:\n- beams")

    monkeypatch.setattr(BudgetSftTrainer, "training_step", never)
    monkeypatch.setattr(GenerationConfig, "save_pretrained", refuses)
    asked = lora.model_dump() if lora else None
    config = sft_config(root, out=tmp_path / "out", lora=asked)
    with pytest.raises(RehearsalError) as failed:
        run(config)
    told = "could be trained, but not be saved afterwards: flags are invalid: - beams; nothing was"
    assert told in str(failed.value) and "\n" not in str(failed.value)
    left = {path.name for path in config.out.iterdir()}
    assert left == {"stage.json", ".lock"}, "so another base may be tried there"


def test_a_template_that_takes_no_question_is_told_too(root: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(root / "base", base)
    (base / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(RehearsalError, match=r"not be published afterwards: .*the chat template"):
        rehearse_saving(str(base), PromptSettings(), tmp_path)


def test_nothing_is_drawn_and_nothing_is_left(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    rehearse_saving(str(root / "base"), PromptSettings(), tmp_path, lora=LORA)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []


def test_layers_that_are_not_there_are_told(root: Path, tmp_path: Path) -> None:
    lora = LoraSettings(targets=("q_proj", "c_attn"))
    with pytest.raises(ConfigError, match="this model has no layer 'c_attn'"):
        rehearse_saving(str(root / "base"), PromptSettings(), tmp_path, lora=lora)


def test_a_twin_has_few_layers_and_nothing_in_them(root: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(root / "base")
    model.config.num_hidden_layers = 24
    deep = type(model)(model.config)
    assert isinstance(deep, PreTrainedModel)
    deep.save_pretrained(tmp_path)
    twin = open_twin(str(tmp_path), (2, 4))
    assert twin.config.num_hidden_layers == 2
    assert not any(bool(values.any()) for values in twin.parameters())
    assert twin.get_input_embeddings().weight is twin.get_output_embeddings().weight


def test_what_a_base_says_of_generation_is_kept_where_it_can_be(root: Path, tmp_path: Path) -> None:
    base = saying(root, tmp_path / "base", top_k=20, do_sample=False)
    told = open_causal_lm(str(base)).generation_config
    assert told.do_sample and told.top_k == 20
    greedy = saying(root, tmp_path / "greedy", eos_token_id=1)
    assert open_causal_lm(str(greedy)).generation_config.do_sample is not True
