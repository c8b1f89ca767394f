"""Makes the virtual environment ready: picks CPU or CUDA, installs the locks, then the project.

``make install`` runs it; a second run without changes takes a fraction of a second, and a run
that was cut short goes on where it was. Needs only a Python with `venv`; it may run on an older
one than the project needs, to say so. Knows nothing of what is in the locks but torch, whose CPU
build the package index does not have.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 12), (3, 13))
DEVICES = ("cpu", "cuda")
EVERY = 25
"""Where nobody watches a terminal, so many packages make a line."""
STAMP = "extracot-install.json"
LOG = "extracot-install.log"
GIB = 2**30
NEEDED_GIB = {"cpu": 6, "cuda": 20}

# PyTorch's own index of CPU builds: the only place but a local file that has them.
TORCH_INDEX_URL = os.environ.get("TORCH_INDEX_URL") or "https://download.pytorch.org/whl/cpu"

# What pip says, and what that means to a person.
PIP_TROUBLES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full"),
    (
        r"NewConnectionError|NameResolutionError|Temporary failure in name resolution"
        r"|Max retries exceeded|Connection refused|timed out|ProxyError|from versions: none",
        "the package index cannot be reached: is there a network?",
    ),
    (r"Permission denied|Read-only file system", "the environment's folder cannot be written"),
)


class InstallError(Exception):
    """Something the user can put right; the message is one line."""


def say(text: str) -> None:
    """One line to the user, at once."""
    print(f"extracot: {text}", flush=True)


def choose_device() -> tuple[str, str]:
    """``cpu`` or ``cuda``, and why. ``EXTRACOT_DEVICE`` decides; else a GPU that answers does."""
    wanted = os.environ.get("EXTRACOT_DEVICE", "").strip().lower()
    if wanted:
        if wanted not in DEVICES:
            raise InstallError(f"EXTRACOT_DEVICE={wanted}: allowed are cpu and cuda")
        return wanted, "EXTRACOT_DEVICE says so"
    if shutil.which("nvidia-smi") is None:
        return "cpu", "no nvidia-smi here; EXTRACOT_DEVICE=cuda overrides"
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "cpu", "nvidia-smi does not answer; EXTRACOT_DEVICE=cuda overrides"
    gpus = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    if listed.returncode != 0 or not gpus:
        return "cpu", "nvidia-smi lists no GPU; EXTRACOT_DEVICE=cuda overrides"
    return "cuda", f"nvidia-smi lists {len(gpus)}: {gpus[0].split('(')[0].strip()}"


def check_platform() -> None:
    """Raise InstallError where the locks do not hold."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        here = f"{platform.system()} {platform.machine()}"
        raise InstallError(f"the locks are for Linux on x86-64, this is {here}")


def choose_python(running: tuple[int, int] = sys.version_info[:2]) -> str:
    """This Python, or another on the path, that the locks are made for."""
    if running in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        found = shutil.which(f"python{major}.{minor}")
        if found:
            return found
    raise InstallError(
        "Python 3.11, 3.12 or 3.13 is needed and none is on the path (this is "
        f"{running[0]}.{running[1]}); name one with PYTHON=/path/to/python3.11"
    )


def read_stamp(venv: Path) -> dict[str, str]:
    """What the last runs finished: lock name -> hash; empty if unknown or no longer usable."""
    try:
        stamp = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(venv: Path, stamp: dict[str, str]) -> None:
    """Keep ``stamp``; a run cut short leaves the old one or the new one."""
    new = venv / f"{STAMP}.new"
    new.write_text(json.dumps(stamp, indent=2) + "\n")
    new.replace(venv / STAMP)


def digest(*parts: bytes) -> str:
    """A hash of several byte strings."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def wanted_state(device: str, groups: list[str], *, project: bool = True) -> dict[str, str]:
    """The stamp that a finished run leaves, in the order things are installed."""
    locks = [device, *groups]
    state = {name: digest((ROOT / f"requirements/{name}.txt").read_bytes()) for name in locks}
    if not project:
        return state
    state["project"] = digest((ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode())
    return state


def runs(command: list[str]) -> bool:
    """Whether ``command`` is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_venv(venv: Path, device: str) -> None:
    """A usable, empty environment at ``venv``, unless a usable one for ``device`` is there."""
    stamp = read_stamp(venv)
    where = str(venv.resolve())
    if stamp.get("device", device) != device:
        say(f"{venv} was made for {stamp['device']}; making it again")
    elif stamp.get("where", where) != where:
        say(f"{venv} was moved; making it again")
    elif runs([str(venv / "bin/python"), "-m", "pip", "--version"]):
        return
    free = shutil.disk_usage(venv.parent if venv.parent.exists() else ROOT).free / GIB
    if free < NEEDED_GIB[device]:
        need = NEEDED_GIB[device]
        raise InstallError(f"{need} GiB of disk are needed at {venv}, {free:.1f} GiB are free")
    python = choose_python()
    say(f"making {venv} with {python}")
    command = [python, "-m", "venv", "--clear", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        said = (made.stdout + made.stderr).strip()
        if "ensurepip" in said:
            raise InstallError("this Python has no venv: install its package (python3-venv)")
        raise InstallError(f"cannot make {venv}: {said.splitlines()[-1] if said else 'no reason'}")
    write_stamp(venv, {"device": device, "where": where})


def pip(venv: Path, *arguments: str, total: int = 0) -> None:
    """Run pip's install and say how far it is. Raises InstallError in one line."""
    # Byte code is left to the first import of each module: compiling all of it takes longer than
    # all the rest together, and most of it is never imported.
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--no-input", "--no-compile"]
    command += ["--no-deps", "--disable-pip-version-check", *arguments]
    lines: list[str] = []
    with (venv / LOG).open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                lines.append(line)
                show_progress(lines, total)
        except BaseException:
            process.terminate()
            raise
    if process.wait() != 0:
        raise InstallError(explain(lines, venv / LOG))


def show_progress(lines: list[str], total: int) -> None:
    """How many packages pip has come to: on a terminal a line that counts, else one now and then.
    While it unpacks them it says nothing for minutes, which is said before."""
    starts = ("Collecting ", "Processing ", "Requirement already", "Installing collected")
    if not (total and lines[-1].startswith(starts)):
        return
    seen = min(sum(line.startswith(starts[:-1]) for line in lines), total)
    if lines[-1].startswith(starts[-1]):
        if sys.stdout.isatty():
            print("\r" + " " * 24 + "\r", end="", flush=True)
        say(f"{seen} packages are here; unpacking them takes a few minutes")
    elif sys.stdout.isatty():
        print(f"\r  {seen} of {total} ", end="", flush=True)
    elif seen % EVERY == 0:
        say(f"{seen} of {total}")


def explain(lines: list[str], log: Path) -> str:
    """One line on why pip failed."""
    text = "".join(lines)
    for pattern, meaning in PIP_TROUBLES:
        if re.search(pattern, text):
            return meaning
    errors = [line.strip() for line in lines if line.startswith("ERROR:")]
    return f"{errors[-1] if errors else 'pip failed'} (all of it: {log})"


def torch_pin() -> str:
    """The version of torch that the CPU lock names."""
    found = re.search(r"^torch==(\S+)$", (ROOT / "requirements/cpu.txt").read_text(), re.MULTILINE)
    if found is None:
        raise InstallError("requirements/cpu.txt does not pin torch")
    return found[1]


def install_cpu_torch(venv: Path) -> None:
    """torch's CPU build: from pip's configured sources if they have it, else from PyTorch's.

    The plain version on the package index is the CUDA build, gigabytes of it, so it is never
    asked for: `==X+cpu` fits no other build.
    """
    version = torch_pin()
    shown = subprocess.run(
        [str(venv / "bin/python"), "-m", "pip", "show", "torch"],
        capture_output=True,
        text=True,
        check=False,
    )
    if re.search(rf"^Version: {re.escape(version)}(\+|$)", shown.stdout, re.MULTILINE):
        return
    say(f"installing torch {version}, the CPU build")
    pinned = f"torch=={version}+cpu"
    try:
        pip(venv, pinned)
    except InstallError:
        try:
            pip(venv, "--index-url", TORCH_INDEX_URL, pinned)
        except InstallError as error:
            raise InstallError(
                f"{pinned} is neither in pip's sources nor at {TORCH_INDEX_URL} "
                f"(TORCH_INDEX_URL names another): {error}"
            ) from None


def install(venv: Path, groups: list[str], *, project: bool = True) -> None:
    """Bring ``venv`` to the wanted state, step by step; each finished step is stamped."""
    check_platform()
    device, reason = choose_device()
    wanted = wanted_state(device, groups, project=project)
    stamp = read_stamp(venv)
    missing = [name for name, value in wanted.items() if stamp.get(name) != value]
    same = (stamp.get("device"), stamp.get("where")) == (device, str(venv.resolve()))
    if not missing and same and (venv / "bin/python").exists():
        say(f"{venv} is up to date ({device}: {reason})")
        return
    started = time.monotonic()
    say(f"installing for {device} ({reason})")
    make_venv(venv, device)
    stamp = read_stamp(venv) | {"device": device, "where": str(venv.resolve())}
    for name, value in wanted.items():
        if stamp.get(name) == value:
            continue
        if name == "project":
            say("installing the project, editable")
            pip(venv, "--no-build-isolation", "--editable", str(ROOT))
        else:
            install_lock(venv, name, device)
        stamp[name] = value
        write_stamp(venv, stamp)
    say(f"ready in {time.monotonic() - started:.0f} s")


def install_lock(venv: Path, name: str, device: str) -> None:
    """One lock file, its CPU torch first."""
    if device == "cpu":
        install_cpu_torch(venv)
    lock = ROOT / f"requirements/{name}.txt"
    total = sum(line[:1].isalpha() for line in lock.read_text().splitlines())
    size = " (gigabytes: this takes a while)" if name == "cuda" else ""
    say(f"installing {total} packages of requirements/{name}.txt{size}")
    pip(venv, "--requirement", str(lock), total=total)


def main() -> int:
    """Entry point; 0, or 1 after one line on what is wrong."""
    parser = argparse.ArgumentParser(description="Make the virtual environment ready.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="its folder")
    parser.add_argument(
        "--with",
        dest="groups",
        action="append",
        default=[],
        choices=["training", "playground", "dev"],
        help="also this lock (repeatable)",
    )
    parser.add_argument(
        "--locks-only",
        action="store_true",
        help="leave the project itself out: an image's dependencies come before its code",
    )
    options = parser.parse_args()
    folder = os.open(ROOT / "requirements", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # one run at a time; the lock ends with the process
        install(options.venv, options.groups, project=not options.locks_only)
    except InstallError as error:
        print(f"extracot: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"extracot: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            print("\nextracot: stopped; the next run goes on from here", file=sys.stderr)
        return 130
    finally:
        os.close(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
