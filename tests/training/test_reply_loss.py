"""The loss of replies: in pieces as whole, over the output layer alone, in passes as at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from extracot_training.policy import reply_loss as module
from extracot_training.policy.reply_loss import IGNORED, reply_loss, separable
from extracot_training.stages.sft.trainer import split
from tests.training.architectures import ARCHITECTURES

WORDS = 61


def small(name: str = "llama", **settings: Any) -> Any:
    kind, known = ARCHITECTURES[name]
    torch.manual_seed(5)
    config = getattr(transformers, kind)(vocab_size=WORDS, pad_token_id=0, **{**known, **settings})
    return transformers.AutoModelForCausalLM.from_config(config)


def batch() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Three rows, 3 to 9 tokens, prompts of 1 to 4."""
    torch.manual_seed(2)
    ids = torch.randint(1, WORDS, (3, 9))
    mask, labels = torch.ones_like(ids), ids.clone()
    for row, (prompt, length) in enumerate(((4, 9), (1, 6), (2, 3))):
        mask[row, length:] = 0
        labels[row, :prompt] = labels[row, length:] = IGNORED
    return {"input_ids": ids, "attention_mask": mask}, labels


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("piece", [3, 512])
def test_pieces_have_the_loss_and_the_gradients_of_the_whole(
    tied: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    model = small(tie_word_embeddings=tied)
    inputs, labels = batch()
    found = []
    for head in (None, separable(model)):
        model.zero_grad()
        made = reply_loss(model, inputs, labels, head)
        (made.total / 7).backward()
        gradients = {name: value.grad.clone() for name, value in model.named_parameters()}
        found.append((made.total.detach(), made.learned, int(made.right), gradients))
    (whole, *counts, first), (pieces, *same, second) = found
    assert counts == same and counts[0] == 5 + 5 + 1
    assert torch.allclose(whole, pieces, rtol=1e-5)
    assert all(torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-6) for name in first)


def test_a_frozen_output_layer_gets_no_gradient() -> None:
    model = small(tie_word_embeddings=True)
    model.get_input_embeddings().weight.requires_grad_(False)
    inputs, labels = batch()
    reply_loss(model, inputs, labels, separable(model)).total.backward()
    assert model.get_output_embeddings().weight.grad is None
    assert model.model.layers[1].mlp.up_proj.weight.grad is not None


def test_under_autocast_the_loss_is_near() -> None:
    model = small()
    inputs, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = reply_loss(model, inputs, labels, model.get_output_embeddings()).total
    full = reply_loss(model, inputs, labels).total
    assert half.dtype == torch.float32 and half.item() == pytest.approx(full.item(), rel=0.01)


@pytest.mark.parametrize(
    ("name", "settings", "alone"),
    [
        ("llama", {}, True),
        ("gpt2", {}, True),
        ("gemma2", {}, False),  # capped
        ("granite", {"logits_scaling": 8.0}, False),
        ("phi", {}, False),  # a bias
    ],
)
def test_only_a_product_of_the_last_states_is_scored_in_pieces(
    name: str, settings: dict[str, Any], alone: bool
) -> None:
    model = small(name, **settings).train()
    assert (separable(model) is not None) is alone
    assert model.training and "forward" not in vars(model.get_output_embeddings())


@pytest.mark.parametrize(("most", "parts"), [(1000, 1), (18, 2), (1, 3)])
def test_a_batch_is_split_by_tokens(most: int, parts: int) -> None:
    inputs, labels = batch()
    made = list(split({**inputs, "labels": labels}, most))
    assert len(made) == parts
    assert sum(part["attention_mask"].sum().item() for part in made) == 9 + 6 + 3
    assert sum((part["labels"] != IGNORED).sum().item() for part in made) == 5 + 5 + 1
    lengths = [part["attention_mask"].sum(dim=1).tolist() for part in made]
    assert [n for part in lengths for n in part] == [9, 6, 3]
