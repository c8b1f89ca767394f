"""scripts/install.py: which device, what is done again, what a person is told when it fails."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
GPU_LINE = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)"


@pytest.fixture
def script() -> ModuleType:
    """The installer as a module."""
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "scripts/install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("EXTRACOT_DEVICE", raising=False)
    return folder


def put_nvidia_smi(folder: Path, said: str, code: int) -> None:
    """A stand-in for the driver's tool."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    tool.chmod(0o755)


def test_no_driver_means_cpu(script: ModuleType, bin_folder: Path) -> None:
    assert script.choose_device() == ("cpu", "no nvidia-smi here; EXTRACOT_DEVICE=cuda overrides")


@pytest.mark.parametrize(
    ("said", "code", "device"),
    [
        (GPU_LINE, 0, "cuda"),
        ("", 0, "cpu"),
        ("No devices were found", 6, "cpu"),
        (GPU_LINE, 9, "cpu"),
        ("NVIDIA-SMI has failed because it could not communicate with the driver", 9, "cpu"),
    ],
)
def test_a_gpu_counts_if_the_driver_lists_it(
    script: ModuleType, bin_folder: Path, said: str, code: int, device: str
) -> None:
    put_nvidia_smi(bin_folder, said, code)
    chosen, reason = script.choose_device()
    assert chosen == device
    assert reason == (
        "nvidia-smi lists 1: GPU 0: NVIDIA H100 80GB HBM3"
        if device == "cuda"
        else "nvidia-smi lists no GPU; EXTRACOT_DEVICE=cuda overrides"
    )


def test_the_variable_overrides(
    script: ModuleType, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_nvidia_smi(bin_folder, GPU_LINE, 0)
    monkeypatch.setenv("EXTRACOT_DEVICE", "CPU")
    assert script.choose_device() == ("cpu", "EXTRACOT_DEVICE says so")
    monkeypatch.setenv("EXTRACOT_DEVICE", "tpu")
    with pytest.raises(script.InstallError, match="EXTRACOT_DEVICE=tpu: allowed are cpu and cuda"):
        script.choose_device()


def test_an_old_python_takes_a_newer_one_or_says_so(script: ModuleType, bin_folder: Path) -> None:
    assert script.choose_python((3, 12)) == sys.executable
    with pytest.raises(
        script.InstallError, match=r"this is 3\.9\); .* PYTHON=/path/to/python3\.11"
    ):
        script.choose_python((3, 9))
    (bin_folder / "python3.12").symlink_to(sys.executable)
    assert script.choose_python((3, 9)) == str(bin_folder / "python3.12")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: after connection broken by 'NewConnectionError(...)'", "is there a network"),
        ("ERROR: no version (from versions: none)", "is there a network"),
        ("ERROR: Could not install: [Errno 13] Permission denied: 'x'", "cannot be written"),
        ("noise\nERROR: something else\n", r"^ERROR: something else \(all of it: log\)$"),
        ("", r"^pip failed \(all of it: log\)$"),
    ],
)
def test_pips_troubles_in_one_line(script: ModuleType, said: str, told: str) -> None:
    explained = script.explain(said.splitlines(keepends=True), Path("log"))
    assert "\n" not in explained
    assert re.search(told, explained)


class FakePip:
    """Stands in for pip: notes what is asked for and fails where told to."""

    def __init__(self, script: ModuleType, fail_on: str = "") -> None:
        self.script = script
        self.fail_on = fail_on
        self.asked: list[str] = []

    def __call__(self, venv: Path, *arguments: str, total: int = 0) -> None:
        asked = arguments[-1].removeprefix(f"{ROOT}/")
        if self.fail_on and self.fail_on in asked:
            raise self.script.InstallError("no network")
        self.asked.append(asked)


@pytest.fixture
def venv(tmp_path: Path, bin_folder: Path, script: ModuleType) -> Path:
    """A folder that passes for a working environment without torch."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin/python"
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    return folder


def test_done_steps_are_not_done_again(
    script: ModuleType, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = FakePip(script)
    monkeypatch.setattr(script, "pip", pip)
    script.install(venv, [])
    torch = f"torch=={script.torch_pin()}+cpu"
    assert pip.asked == [torch, "requirements/cpu.txt", str(ROOT)]
    pip.asked.clear()
    script.install(venv, [])
    assert pip.asked == []
    script.install(venv, ["dev"])
    assert pip.asked == [torch, "requirements/dev.txt"]


def test_a_run_cut_short_goes_on(
    script: ModuleType, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = FakePip(script, fail_on="dev.txt")
    monkeypatch.setattr(script, "pip", pip)
    with pytest.raises(script.InstallError):
        script.install(venv, ["training", "dev"])
    pip.fail_on = ""
    pip.asked.clear()
    script.install(venv, ["training", "dev"])
    assert pip.asked[1:] == ["requirements/dev.txt", str(ROOT)]


def test_another_device_makes_the_environment_anew_if_there_is_room(
    script: ModuleType,
    venv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "pip", FakePip(script))
    script.install(venv, [])
    monkeypatch.setenv("EXTRACOT_DEVICE", "cuda")
    monkeypatch.setitem(script.NEEDED_GIB, "cuda", 10**9)
    with pytest.raises(script.InstallError, match=r"1000000000 GiB of disk are needed at .* free"):
        script.install(venv, [])
    assert "was made for cpu; making it again" in capsys.readouterr().out


def test_torchs_cpu_build_is_looked_for_in_both_places(
    script: ModuleType, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = FakePip(script, fail_on="+cpu")
    monkeypatch.setattr(script, "pip", pip)
    with pytest.raises(script.InstallError, match="neither in pip's sources nor at"):
        script.install_cpu_torch(venv)


def test_an_image_gets_its_dependencies_before_the_project(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--locks-only`` one lock is all it needs: no pyproject.toml, no code."""
    lock = tmp_path / "requirements/cpu.txt"
    lock.parent.mkdir()
    lock.write_text("torch==2.13.0\n")
    whole = script.wanted_state("cpu", [])
    monkeypatch.setattr(script, "ROOT", tmp_path)
    assert list(script.wanted_state("cpu", [], project=False)) == ["cpu"]
    assert list(whole) == ["cpu", "project"]


@pytest.mark.parametrize("terminal", [True, False])
def test_an_install_is_never_silent_for_long(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    monkeypatch.setattr(script.sys.stdout, "isatty", lambda: terminal, raising=False)
    lines: list[str] = []
    for line in [*(f"Collecting p{n}" for n in range(60)), "Installing collected packages: p0, p1"]:
        lines += [line, "  Downloading\n"]
        script.show_progress(lines[:-1], 60)
    said = capsys.readouterr().out
    assert said.endswith("extracot: 60 packages are here; unpacking them takes a few minutes\n")
    assert ("\r  59 of 60 " in said) == terminal
    assert ("extracot: 25 of 60\nextracot: 50 of 60\n" in said) != terminal
