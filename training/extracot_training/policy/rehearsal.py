"""What fails only at saving, tried before anything is trained: the base saved, merged, published.

A small twin of the base (its class, its settings, its tokenizer; two layers, weights of zero) goes
through every step that the trained model takes from the last update to a folder that is served. So
a base that cannot be saved costs seconds. Knows model folders and adapters; knows no stage.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extracot.control import Control, level_token
from extracot.errors import ExtracotError
from extracot_training.errors import StageError
from extracot_training.pipeline.progress import warn
from extracot_training.policy.adapters import adapter_config, write_merged
from extracot_training.policy.control_tokens import grow_embeddings
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.policy.model_folder import model_files, put_model
from extracot_training.policy.pretrained import load_tokenizer, make_savable, open_twin
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.policy.training_settings import LoraSettings

PLACE = ".rehearsal"
QUESTION = "What is 12 * 3 + 4?"
# Layers of the twin: some architectures need several, of more than one kind.
LAYERS = (2, 4, 8)
# Characters of an error that are told.
MOST = 400


class RehearsalError(StageError):
    """The model could be trained, but not be saved, merged or published as it is."""


def rehearse_saving(
    name: str, prompt: PromptSettings, folder: Path, *, lora: LoraSettings | None = None
) -> None:
    """Save, merge (with ``lora``) and publish a twin of the base ``name`` in a corner of
    ``folder``, which is gone afterwards.

    ``folder`` should be on the disk of the run. Takes about as many bytes as three copies of the
    embeddings in bfloat16, and draws nothing from any random state. Raises :class:`RehearsalError`
    in one line for what would fail after training; what fails to load raises as it always does.
    """
    import torch

    place = folder / PLACE
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        with torch.random.fork_rng(devices=[]):
            _rehearse(name, prompt, place, lora)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _rehearse(name: str, prompt: PromptSettings, place: Path, lora: LoraSettings | None) -> None:
    tokenizer, tokens = load_policy_tokenizer(name, prompt)
    twin = open_twin(name, LAYERS)
    if make_savable(twin):
        warn(
            f"model {name!r}: its generation_config.json names sampling without do_sample, or "
            "flags of no use; it is saved with that put right"
        )
    grow_embeddings(twin, tokenizer, tokens.added, seed=0)
    trained, published = place / "trained", place / "published"
    adapter = adapter_config(lora, twin, tokens.all) if lora else None
    with _told(name, "saved"):
        if adapter is None:
            twin.save_pretrained(trained)
            tokenizer.save_pretrained(trained)
        else:
            from peft import get_peft_model

            write_merged(get_peft_model(twin, adapter), tokenizer, prompt, name, trained)
        prompt.save(trained)
    with _told(name, "published"):
        published.mkdir()
        put_model(model_files(trained), published, dtype="keep")
        _render(prompt, load_tokenizer(str(published)))


def _render(prompt: PromptSettings, tokenizer: Any) -> None:
    """A prompt at every budget, as a server makes it."""
    renderer = prompt.renderer(tokenizer)
    controls = [Control.native(), Control.none()]
    controls += [Control.level(level_token(ratio)) for ratio in prompt.ratios]
    controls += [Control.policy()] if prompt.policy else []
    for control in controls:
        prompt.prompt_ids(renderer, QUESTION, control)


@contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Whatever a library raises here is what would end the run after its last step."""
    try:
        yield
    except OSError:  # a full disk is no fault of the base
        raise
    except (ExtracotError, ValueError, TypeError, RuntimeError, KeyError, AttributeError,
            NotImplementedError, AssertionError, IndexError) as error:  # fmt: skip
        raise RehearsalError(
            f"model {name!r} could be trained, but not be {what} afterwards: "
            f"{' '.join(str(error).split())[:MOST]}; nothing was trained"
        ) from error
