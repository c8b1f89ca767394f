"""Windows, labels, the loss, and training that can be cut and go on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import XLNetConfig

from extracot_training.compression.encoding import (
    Layout,
    WindowEncoder,
    WindowError,
    token_labels,
    window_labels,
)
from extracot_training.compression.model import (
    CompressorCard,
    CompressorError,
    batch_of,
    load_compressor,
    new_model,
    pad_batch,
)
from extracot_training.compression.scoring import averaged
from extracot_training.compression.segment import segment, spans_of
from extracot_training.config.compressor import AdapterSettings, CompressorConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.checkpoints import CHECKPOINTS
from extracot_training.pipeline.records import write_rows
from extracot_training.policy.pretrained import PretrainedError, load_tokenizer
from extracot_training.stages.compressor import stage as train
from extracot_training.stages.compressor.loss import class_weights, f1_scores, token_loss
from tests.examples import examples
from tests.training.tiny import QUESTION, TRACE, annotation, save_encoder, word_tokenizer

TOKENIZER = word_tokenizer()


@given(st.text(alphabet="ab $=+1\\({}\n.中", max_size=200), st.data())
def test_labels_follow_kept_atoms(text: str, data: st.DataObject) -> None:
    atoms = segment(text)
    chosen = data.draw(st.sets(st.integers(0, len(atoms) - 1)) if atoms else st.just(set()))
    encoded = WindowEncoder(TOKENIZER, Layout(48, 8, 0.0)).encode("a b", text)
    labels = token_labels(encoded.spans, spans_of(atoms, chosen))
    for (start, end), label in zip(encoded.spans, labels, strict=True):
        inside = [i for i in chosen if atoms[i].start <= end - 1 < atoms[i].end]
        assert label == bool(inside), (start, end)


def test_a_space_in_front_does_not_make_a_token_kept() -> None:
    # Byte-level tokenizers count the space before a word as the word's.
    assert token_labels([(0, 2), (2, 7), (7, 8)], [(0, 3)]) == [1, 0, 0]


@given(st.integers(0, 400), st.integers(0, 12), st.floats(0, 0.9))
def test_windows_cover_every_token_and_show_the_question(
    length: int, question: int, overlap: float
) -> None:
    layout = Layout(48, 8, overlap)
    encoded = WindowEncoder(TOKENIZER, layout).encode("x " * question, "a " * length)
    seen = [0] * len(encoded.spans)
    asked = TOKENIZER.encode("x", add_special_tokens=False) * min(question, 8)
    for window in encoded.windows:
        assert len(window.ids) <= layout.length
        assert list(window.ids[1 : window.offset - 1]) == asked
        for at in range(window.first, window.first + window.count):
            seen[at] += 1
    assert all(seen)
    assert length or not encoded.windows


def test_question_and_special_tokens_are_not_labelled() -> None:
    encoded = WindowEncoder(TOKENIZER, Layout(48, 8, 0.0)).encode(QUESTION, TRACE)
    labels = token_labels(encoded.spans, [(0, len(TRACE))])
    for window in encoded.windows:
        marked = window_labels(window, labels)
        assert marked == [-100] * window.offset + [1] * window.count + [-100]


def test_averaging_does_not_depend_on_where_windows_begin() -> None:
    # Where a token's score depends on the token alone, cutting must not be seen in the result.
    text = " ".join(f"a{n} = {n}" for n in range(60))
    results = []
    for layout in (
        Layout(48, 8, 0.0),
        Layout(48, 8, 0.5),
        Layout(64, 4, 0.3),
        Layout(4096, 8, 0.2),
    ):
        encoded = WindowEncoder(TOKENIZER, layout).encode("how", text)
        logits = [[float(i) for i in w.ids[w.offset : w.offset + w.count]] for w in encoded.windows]
        results.append(averaged(encoded, logits))
    assert all(result == results[0] for result in results)


def test_a_long_question_keeps_its_end() -> None:
    encoder = WindowEncoder(TOKENIZER, Layout(48, 4, 0.0))
    window = encoder.encode("a b c d e f g how", "x").windows[0]
    ids = TOKENIZER.encode("a b g how", add_special_tokens=False)
    assert list(window.ids[1:5]) == ids


def test_no_room_for_the_trace_is_said() -> None:
    with pytest.raises(WindowError, match="leaves 13 for the trace"):
        WindowEncoder(TOKENIZER, Layout(48, 64, 0.0)).encode("a " * 32, "text")


def test_focal_loss_is_cross_entropy_at_gamma_zero() -> None:
    logits = torch.randn(3, 5, 2)
    labels = torch.tensor([[0, 1, -100, 1, 0]] * 3)
    summed, norm = token_loss(logits, labels, None, 0.0)
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum"
    )
    assert norm.item() == 12
    torch.testing.assert_close(summed, expected)
    focal, _ = token_loss(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([1.0, 3.0]), 2.0)
    assert focal.item() == pytest.approx(3 * 0.25 * np.log(2), rel=1e-5)


def test_class_weights_are_mild() -> None:
    assert class_weights([90, 10]) == pytest.approx([0.5, 1.5])
    assert class_weights([50, 50]) == pytest.approx([1.0, 1.0])


def test_f1_ignores_what_is_not_labelled() -> None:
    scores = f1_scores(np.array([[1, 0, 1, 1]]), np.array([[1, 0, 0, -100]]))
    assert scores["precision_keep"] == 0.5
    assert scores["recall_keep"] == 1.0
    assert scores["macro_f1"] == pytest.approx(2 / 3)


class Takes:
    """A model's signature, nothing more."""

    def __init__(self, forward: Any, **config: Any) -> None:
        self.forward = forward
        self.config = type("Config", (), config)()


def test_global_attention_goes_to_the_question_where_there_is_one() -> None:
    def longformer(input_ids: Any, attention_mask: Any, global_attention_mask: Any) -> None: ...
    def modernbert(input_ids: Any, attention_mask: Any) -> None: ...

    rows = ([[1, 5, 2, 7, 2], [1, 5, 5, 2, 7, 7, 2]], [[0] * 5, [0] * 7], [3, 4])
    batch = pad_batch(*rows, Takes(longformer), 0)
    assert batch["global_attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]]
    assert batch["attention_mask"].sum(1).tolist() == [5, 7]
    assert set(pad_batch(*rows, Takes(modernbert), 0)) == {"input_ids", "attention_mask"}


# -- training


def annotated(tmp_path: Path, count: int = 24) -> Path:
    """Traces in which equations are kept: something that can be learned."""
    rows = []
    for number in range(count):
        text = TRACE.replace("3 × 4 = 12", f"{number} × 4 = {number * 4}")
        atoms = segment(text)
        keep = [i for i, atom in enumerate(atoms) if "=" in atom.text]
        rows.append(annotation(number, spans_of(atoms, keep), text))
    write_rows(tmp_path / "annotate" / "rows.jsonl", rows)
    return tmp_path / "annotate"


def config_for(tmp_path: Path, out: str, **changes: Any) -> CompressorConfig:
    settings = {
        "input": tmp_path / "annotate",
        "out": tmp_path / out,
        "encoder": str(tmp_path / "encoder"),
        "length": 96,
        "question": 16,
        "dev_share": 0.2,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "evaluations": 4,
        "patience": 8,
        "threads": 1,
    }
    return CompressorConfig(**(settings | changes))


class Cut(Exception):
    """Stands for kill -9 right after a checkpoint."""


def test_a_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainerCallback

    save_encoder(tmp_path / "encoder")
    annotated(tmp_path)
    whole = config_for(tmp_path, "whole")
    train.run(whole)

    class Killer(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps // 2:
                raise Cut

    build = train._trainer

    def build_to_be_cut(*args: Any) -> Any:
        trainer = build(*args)
        trainer.add_callback(Killer())
        return trainer

    cut = config_for(tmp_path, "cut")
    monkeypatch.setattr(train, "_trainer", build_to_be_cut)
    with pytest.raises(Cut):
        train.run(cut)
    monkeypatch.setattr(train, "_trainer", build)
    checkpoints = tmp_path / "cut" / CHECKPOINTS
    assert list(checkpoints.glob("checkpoint-*/whole"))
    torn = checkpoints / "checkpoint-999"  # newer, and cut short in its last file
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step"')
    train.run(cut)
    first, second = (load_compressor(tmp_path / name)[0].state_dict() for name in ("whole", "cut"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6)
    assert not (tmp_path / "cut" / CHECKPOINTS).exists()
    assert train.run(cut).status == "up to date"


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A limit on file size stands for the full disk; the weights are what does not fit. No byte
    code of packages is written, or halves of it would be left where others import them."""
    save_encoder(tmp_path / "encoder")
    annotated(tmp_path, 12)
    config = config_for(tmp_path, "out", epochs=1, evaluations=1)
    file = tmp_path / "compressor.yaml"
    file.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "extracot_training.cli", "compressor", "--config", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "weights could not be read or written (is the disk full?)" in done.stderr
    assert "Traceback" not in done.stderr and "File too large" in done.stderr
    assert train.run(config).counts["windows"] > 0


def test_an_adapter_is_small_and_loads_merged(tmp_path: Path) -> None:
    save_encoder(tmp_path / "encoder")
    annotated(tmp_path, 16)
    train.run(config_for(tmp_path, "out", adapter=AdapterSettings(rank=2), epochs=1))
    model, tokenizer, card = load_compressor(tmp_path / "out")
    assert card.weights == "adapter"
    assert not (tmp_path / "out" / "model.safetensors").exists()
    windows = WindowEncoder(tokenizer, card.layout).encode(QUESTION, TRACE).windows
    assert model(**batch_of(windows, model, tokenizer)).logits.shape[-1] == 2


def test_a_tokenizer_without_a_pad_token_serves(tmp_path: Path) -> None:
    save_encoder(tmp_path / "encoder", pad=False)
    assert load_tokenizer(str(tmp_path / "encoder")).pad_token_id is None
    annotated(tmp_path, 12)
    outcome = train.run(config_for(tmp_path, "out", epochs=1, evaluations=1))
    assert outcome.counts["windows"] > 0


def test_what_cannot_be_trained_is_said_at_once(tmp_path: Path) -> None:
    save_encoder(tmp_path / "encoder")
    annotated(tmp_path, 12)
    with pytest.raises(ConfigError, match="the encoder has 96 positions"):
        train.run(config_for(tmp_path, "long", length=128))
    with pytest.raises(PretrainedError, match="nowhere"):
        train.run(config_for(tmp_path, "none", encoder=str(tmp_path / "nowhere")))
    write_rows(tmp_path / "annotate" / "rows.jsonl", [annotation(n, []) for n in range(12)])
    with pytest.raises(StageError, match="labelled alike"):
        train.run(config_for(tmp_path, "alike"))


def test_a_folder_that_is_no_compressor_is_said(tmp_path: Path) -> None:
    with pytest.raises(CompressorError, match=r"compressor\.json missing"):
        load_compressor(tmp_path)
    (tmp_path / "compressor.json").write_text('{"encoder": "x"}')
    with pytest.raises(CompressorError, match="field 'weights'"):
        CompressorCard.load(tmp_path)


@examples(20)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=50))
def test_f1_of_a_perfect_guess_is_one(labels: list[int]) -> None:
    array = np.array(labels)
    assert f1_scores(array, array)["macro_f1"] == 1.0


def test_of_a_long_question_only_the_end_may_be_shown() -> None:
    encoder = WindowEncoder(TOKENIZER, Layout(48, 3, 0.0, asking=True))
    window = encoder.encode("a b c d e f g how", "x").windows[0]
    assert list(window.ids[1:4]) == TOKENIZER.encode("f g how", add_special_tokens=False)
    short = encoder.encode("b how", "x").windows[0]
    assert list(short.ids[1:3]) == TOKENIZER.encode("b how", add_special_tokens=False)


def test_attention_dropout_replaces_the_encoders_own(tmp_path: Path) -> None:
    folder = str(save_encoder(tmp_path / "encoder"))
    own = new_model(folder, None)
    assert own.bert.encoder.layer[0].attention.self.dropout.p == 0.1
    without = new_model(folder, None, attention_dropout=0.0)
    assert without.bert.encoder.layer[1].attention.self.dropout.p == 0.0
    assert without.bert.encoder.layer[1].output.dropout.p == 0.1, "only the attention's"


def test_an_encoder_without_attention_dropout_says_so(tmp_path: Path) -> None:
    settings = XLNetConfig(vocab_size=8, d_model=8, n_layer=1, n_head=1, d_inner=8)
    settings.save_pretrained(tmp_path)
    with pytest.raises(PretrainedError, match="no attention dropout to set"):
        new_model(str(tmp_path), None, attention_dropout=0.0)
    with pytest.raises(PretrainedError, match="nowhere"):
        new_model(str(tmp_path / "nowhere"), None, attention_dropout=0.0)
