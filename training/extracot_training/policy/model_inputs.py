"""Which files decide what a model of any name says, for the inputs by which a stage knows its work.

A folder, a hub name and a bundled name come to the same: files that are hashed. So a run of one
base is never taken for one of another, whatever it is called, and the same weights may move. Knows
Hugging Face's file names; loads no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from extracot_training.policy.model_folder import ADAPTER_CONFIG, GENERATION, INDEX, TOKENIZER_FILES
from extracot_training.policy.pretrained import PretrainedError, first_line, located

CONFIG = "config.json"
TEMPLATES = "additional_chat_templates"
TOKENIZER = (*TOKENIZER_FILES, "chat_template.json")
SETTINGS = (CONFIG, GENERATION, ADAPTER_CONFIG)
# In the order in which the library looks for them; an index names the files that it stands for.
WEIGHTS = ("model.safetensors", INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")


def model_inputs(name: str, role: str = "model") -> dict[str, Path]:
    """Role and file, of everything that decides what the model says: settings, tokenizer, template,
    weights, of an adapter also its base's. Reports and manifests beside them don't count.

    A hub name's files are fetched. Raises :class:`PretrainedError` where there is no such model.
    """
    found = tokenizer_inputs(name, role)
    if Path(name).is_dir():
        return found | _named(role, _local(Path(name))) | _base_of(Path(name), role)
    if name.startswith("bundled:"):
        path, extra = located(name)
        folder = Path(path)
        files = [folder / extra["gguf_file"]] if extra else list(_local(folder))
        return found | _named(role, iter(files))
    return found | _named(role, _on_hub(name))


def tokenizer_inputs(name: str, role: str = "model") -> dict[str, Path]:
    """The same of its tokenizer and chat template alone."""
    folder = Path(located(name)[0])
    if folder.is_dir():
        files = [folder / file for file in TOKENIZER]
        files += sorted((folder / TEMPLATES).glob("*.jinja"))
        return _named(role, (file for file in files if file.is_file()))
    return _named(role, filter(None, (_hub_file(name, file) for file in TOKENIZER)))


def _named(role: str, files: Iterator[Path]) -> dict[str, Path]:
    return {f"{role} {path.name}": path for path in files}


def _local(folder: Path) -> Iterator[Path]:
    yield from (folder / file for file in SETTINGS if (folder / file).is_file())
    weights = sorted(folder.glob("*.safetensors"))
    yield from weights or sorted((*folder.glob("pytorch_model*.bin"), *folder.glob("adapter*.bin")))


def _base_of(folder: Path, role: str) -> dict[str, Path]:
    """Files of the model that an adapter in ``folder`` was made for."""
    if (folder / CONFIG).is_file() or not (folder / ADAPTER_CONFIG).is_file():
        return {}
    base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    name = base.get("base_model_name_or_path") if isinstance(base, dict) else None
    if not isinstance(name, str) or Path(name) == folder:
        return {}
    return model_inputs(name, f"{role} base")


def _on_hub(name: str) -> Iterator[Path]:
    yield from filter(None, (_hub_file(name, file) for file in SETTINGS))
    weights = next(filter(None, (_hub_file(name, file) for file in WEIGHTS)), None)
    if weights is None:
        raise PretrainedError(
            f"model {name!r}: no folder here, and no weights of it on the hub or in its cache"
        )
    yield weights
    if weights.suffix == ".json":
        shards = json.loads(weights.read_text(encoding="utf-8")).get("weight_map", {})
        yield from filter(None, (_hub_file(name, file) for file in sorted(set(shards.values()))))


def _hub_file(name: str, file: str) -> Path | None:
    """A file of a model on the hub, from the cache where it is there and up to date."""
    from transformers.utils import cached_file

    try:
        found = cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,  # offline, a file may not be known of
        )
    except (OSError, ValueError) as error:
        raise PretrainedError(
            f"model {name!r}: no folder here, and none of the hub's: {first_line(error)}"
        ) from error
    return Path(found) if found else None
