"""The wheel, as strangers get it: built, installed in an empty environment, used from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import extracot

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT, ROOT / "server", ROOT / "training", ROOT / "clients/python")
PACKAGES = ("extracot", "extracot_server", "extracot_training", "extracot_client")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, in a folder of its own."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def empty_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and its base dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    command += ["--constraint", str(ROOT / "requirements/dev.txt"), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def run(bin_folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of that environment, outside the repository, with none of our variables."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(bin_folder.parent)}
    return subprocess.run(
        [str(bin_folder / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        cwd=bin_folder.parent,
        env=kept,
        check=False,
    )


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"extracot-{extracot.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, info}
    assert f"{info}/licenses/LICENSE" in names
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    here = {
        str(path.relative_to(folder))
        for folder, package in zip(FOLDERS, PACKAGES, strict=True)
        for path in (folder / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if not name.startswith(info)} == here


def test_the_wheel_names_its_commands_and_its_description(wheel: Path) -> None:
    info = f"extracot-{extracot.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        commands = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    for line in (
        "extracot = extracot_client.cli:main",
        "extracot-serve = extracot_server.cli:command",
        "extracot-train = extracot_training.cli:main",
    ):
        assert line in commands.splitlines()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "# Extra-CoT Server" in metadata


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_imports(empty_environment: Path, package: str) -> None:
    done = run(empty_environment, "python", "-c", f"import {package}; print({package}.__file__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(empty_environment.parent))


def test_the_base_is_small(empty_environment: Path) -> None:
    done = run(empty_environment, "python", "-m", "pip", "list", "--format=freeze")
    assert len(done.stdout.splitlines()) <= 18, done.stdout


def test_the_client_works_on_the_base(empty_environment: Path) -> None:
    done = run(empty_environment, "extracot", "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: extracot" in done.stdout


@pytest.mark.parametrize(
    ("command", "extra"), [("extracot-serve", "server"), ("extracot-train", "training")]
)
def test_a_command_works_or_names_its_extra(
    empty_environment: Path, command: str, extra: str
) -> None:
    done = run(empty_environment, command, "--help")
    if done.returncode == 0:
        assert f"usage: {command}" in done.stdout
    else:
        assert f"extracot[{extra}]" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
