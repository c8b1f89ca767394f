"""The Makefile's words: what they run, and what they say where they cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKE = shutil.which("make") or "make"


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, not as a child of the make that runs the tests."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS", "PORT", "HOST", "MODEL", "VENV"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        [MAKE, "-C", str(ROOT), "--no-print-directory", *words],
        capture_output=True,
        text=True,
        env=environment | variables,
        check=False,
    )


def test_plain_make_lists_the_targets() -> None:
    listed = make().stdout
    tests = ("test", "test-all", "test-clients", "check", "gpu-smoke")
    for target in ("install", "serve", *tests, "wheel", "lock", "clean"):
        assert f"make {target} " in listed


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ((), "exec .venv/bin/extracot-serve"),
        (("PORT=9000",), 'exec .venv/bin/extracot-serve --port "9000"'),
        (("MODEL=a b", "HOST=::1"), '--host "::1"'),
        (("MODEL=a b",), '--model "a b"'),
        (("VENV=other", "ARGS=--engine scripted"), "other/bin/extracot-serve"),
        (("ARGS=--engine scripted",), "--engine scripted"),
    ],
)
def test_serve_hands_on_only_what_is_set(words: tuple[str, ...], command: str) -> None:
    shown = make("-n", "serve", *words).stdout
    assert "scripts/install.py --venv" in shown
    assert command in " ".join(shown.replace("\\\n", " ").split())


def test_test_leaves_out_what_is_slow_and_check_does_not() -> None:
    shown = {target: make("-n", target, "ARGS=-x").stdout for target in ("test", "check")}
    assert '-m "not slow and not clients" -x' in shown["test"]
    assert " -x" in shown["check"] and "slow" not in shown["check"]
    assert "lint-imports" in shown["check"]


def test_real_clients_run_apart_and_ci_runs_them() -> None:
    shown = make("-n", "test-clients", "ARGS=-x").stdout
    assert "uv==" in shown and "-m clients tests/real_clients -x" in shown
    assert "make test-clients" in (ROOT / ".ci" / "run").read_text()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    assert settings["ini_options"]["addopts"][-2:] == ["-m", "not clients"]


def test_playground_is_serve_with_the_page() -> None:
    shown = " ".join(make("-n", "playground", "PORT=9000").stdout.replace("\\\n", " ").split())
    assert "scripts/install.py --venv .venv --with playground" in shown
    assert 'exec .venv/bin/extracot-serve --playground true --port "9000"' in shown


def test_gpu_smoke_without_a_gpu_fails_and_says_that_nothing_ran(tmp_path: Path) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    driver.chmod(0o755)
    done = make("gpu-smoke", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode != 0
    assert "no working CUDA GPU here (nvidia-smi lists none): nothing was run" in done.stderr
