"""What every test gets: one event loop, no settings from outside, honest skips.

Sets the variables that must stand before a heavy library is imported, so it imports none itself.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis.internal.conjecture import providers

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")

# A developer's own settings must not decide how a test ends; nothing may call home or a hub.
for _name in [name for name in os.environ if name.startswith("EXTRACOT_")]:
    del os.environ[_name]
# Usage that a server keeps goes where the tests can leave it.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="extracot-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["MPLBACKEND"] = "Agg"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"

# Threads of one worker wait for each other by spinning, so those of several share the cores out.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores)))

# Started in the background by a shell, a process ignores Ctrl-C and so do all it starts; tests that
# press it need what a terminal gives.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine's load decides how long an example takes, so time never fails one. CI draws the same
# 100 examples every run; a developer's runs try fewer and go on exploring, and
# `--hypothesis-profile=wide` searches twenty times as long as CI (before a release, or after a
# change to what a property is about).
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True, max_examples=30)
hypothesis.settings.register_profile(
    "wide",
    deadline=None,
    print_blob=True,
    max_examples=2000,
    suppress_health_check=list(HealthCheck),
)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if IN_CI else "dev")
if IN_CI:
    # Hypothesis also draws constants that it finds in whatever modules are loaded, so an unrelated
    # change, or another test before, would change the examples: the same is not the same then.
    providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio, as in the server; for the session, so that async fixtures can be shared."""
    return "asyncio"


@functools.cache
def why_no_gpu() -> str | None:
    """Why GPU tests cannot run here, or ``None``: the driver must answer and list a GPU."""
    if shutil.which("nvidia-smi") is None:
        return "no working CUDA GPU: nvidia-smi is not here"
    command = ["nvidia-smi", "--list-gpus"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "no working CUDA GPU: nvidia-smi does not answer"
    if listed.returncode != 0 or "GPU " not in listed.stdout:
        return "no working CUDA GPU: nvidia-smi lists none"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run; then put the rest in order.

    In CI a missing vLLM is no excuse.
    """
    no_vllm = importlib.util.find_spec("vllm") is None and not IN_CI
    for item in items:
        if item.get_closest_marker("gpu") and (reason := why_no_gpu()):
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("vllm") and no_vllm:
            item.add_marker(pytest.mark.skip(reason="vLLM is not installed (make test does it)"))
    _share_out(items)


def _share_out(items: list[pytest.Item]) -> None:
    """Order: what runs vLLM first, modules with slow tests before others, killed engines last.

    The longest groups begin, so that no worker is left with one at the end.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        return (
            item.get_closest_marker("kills") is not None,
            item.get_closest_marker("vllm") is None,
            item.path not in slow,
        )

    items.sort(key=place)  # stable


@functools.cache
def group_of(module: Path) -> str:
    """The group that a module's tests are in; one worker runs all of a group, in order.

    Modules stay whole, and all that runs vLLM is one group, because its tests share engines.
    """
    return "vllm" if "mark.vllm" in module.read_text(encoding="utf-8") else str(module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share groups out. xdist 3.8 has groups of its own, which pytest 9.2 no longer lets it see."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(config.rootpath / nodeid.partition("::")[0])

    return Groups(config, log)
