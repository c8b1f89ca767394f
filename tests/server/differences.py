"""A tiny checkpoint told as a difference in every form, made with nothing of what reads it."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from extracot.difference import CHANGES_FILENAME, BaseIdentity, Difference, Step, part
from extracot_server.model_registry.bundled import SMOLLM2, BundledModel
from tests.fixtures.tiny_gguf import FILE, PACKAGE, build_tiny_package, sha256_of_file
from tests.fixtures.tiny_model import build_tiny_model

NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
FACTORED = "model.layers.1.mlp.up_proj.weight"
PACKED = "model.layers.1.self_attn.q_proj.weight"
ROWS, RANK, BITS, GROUP = 7, 3, 5, 24


@dataclass(frozen=True, slots=True)
class Made:
    """``site`` holds the base's package, ``folder`` the difference, ``model`` the base itself.
    ``expected`` are the float32 values of the tensors that change."""

    site: Path
    model: Path
    folder: Path
    base: BundledModel
    expected: dict[str, NDArray[np.float32]]


def make(root: Path, merged_sha256: str | None = None) -> Made:
    """Everything below the new folder ``root``."""
    from transformers import AutoModelForCausalLM

    model = build_tiny_model(root / "model")
    file = build_tiny_package(model, root / "site")
    read: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=FILE, dtype="float32")
    base = {
        name: values.numpy()
        for name, values in read.state_dict().items()
        if name != "lm_head.weight"
    }
    rng = np.random.default_rng(3)
    steps: dict[str, list[Step]] = {}
    parts: dict[str, NDArray[Any]] = {}
    expected: dict[str, NDArray[np.float32]] = {}

    expected[NORM] = base[NORM] + rng.normal(size=base[NORM].shape).astype(np.float32)
    steps[NORM] = [Step(form="whole")]
    parts[part(NORM, "whole", "values")] = expected[NORM]

    known, width = base[EMBEDDING].shape
    fresh = rng.normal(size=(ROWS, width)).astype(np.float32)
    expected[EMBEDDING] = np.concatenate([base[EMBEDDING], fresh])
    expected[EMBEDDING][5] = fresh[0]
    steps[EMBEDDING] = [Step(form="rows")]
    parts[part(EMBEDDING, "rows", "index")] = np.array([5, *range(known, known + ROWS)])
    parts[part(EMBEDDING, "rows", "values")] = np.concatenate([fresh[:1], fresh])

    rows, columns = base[FACTORED].shape
    left = rng.normal(size=(rows, RANK)).astype(np.float16)
    right = rng.normal(size=(RANK, columns)).astype(np.float16)
    product = left.astype(np.float64) @ right.astype(np.float64)
    expected[FACTORED] = (base[FACTORED] + product).astype(np.float32)
    steps[FACTORED] = [Step(form="low_rank")]
    parts[part(FACTORED, "low_rank", "left")] = left
    parts[part(FACTORED, "low_rank", "right")] = right

    size = base[PACKED].size
    numbers = rng.integers(0, 2**BITS, size)
    scale = rng.uniform(0.01, 0.1, -(-size // GROUP)).astype(np.float16)
    added = np.float32(numbers - 2 ** (BITS - 1)) * np.float32(np.repeat(scale, GROUP)[:size])
    expected[PACKED] = base[PACKED] + added.reshape(base[PACKED].shape)
    steps[PACKED] = [Step(form="bits", bits=BITS, group=GROUP)]
    text = "".join(f"{number:0{BITS}b}"[::-1] for number in numbers)
    packed = [int(text[place : place + 8][::-1], 2) for place in range(0, len(text), 8)]
    parts[part(PACKED, "bits", "packed")] = np.array(packed, np.uint8)
    parts[part(PACKED, "bits", "scale")] = scale

    folder = root / "told"
    folder.mkdir()
    save_file(parts, folder / CHANGES_FILENAME)
    for path in model.iterdir():
        if path.name == "tokenizer.json":
            (folder / "tokenizer.json.gz").write_bytes(gzip.compress(path.read_bytes()))
        elif path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    rows_now = {"vocab_size": known + ROWS}
    config = json.loads((model / "config.json").read_text()) | rows_now
    (folder / "config.json").write_text(json.dumps(config))
    identity = BaseIdentity(
        name="tiny", requirement="tiny-base==1.0", file=FILE, sha256=sha256_of_file(file)
    )
    Difference(
        base=identity,
        dtype="bfloat16",
        tensors={
            name: [*expected.get(name, values).shape] for name, values in sorted(base.items())
        },
        steps=steps,
        changes_sha256=sha256_of_file(folder / CHANGES_FILENAME),
        weights_sha256=merged_sha256,
    ).save(folder)
    return Made(root / "site", model, folder, _as_bundled(identity), expected)


def _as_bundled(identity: BaseIdentity) -> BundledModel:
    return BundledModel(
        name=identity.name,
        folder="tiny",
        requirement=identity.requirement,
        package=PACKAGE,
        file=identity.file,
        sha256=identity.sha256,
        needed_bytes=0,
        max_model_len=4096,
        sampling=SMOLLM2.sampling,
        default_max_tokens=100,
    )
