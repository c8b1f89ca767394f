"""The Dockerfile keeps its promises: two devices, pinned, non-root, no secrets, layers in order.

It is built for real by ``deploy/build-here.sh``, which needs root and minutes: docs/deploy.md.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from extracot_server.config.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
Instruction = tuple[str, str]


def stages() -> dict[str, list[Instruction]]:
    """The stages by name (the last is ``""``), each the instructions after its FROM."""
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[Instruction]] = {"global": []}
    name = "global"
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            source, _, alias = rest.partition(" AS ")
            name = alias
            found[name] = [("FROM", source)]
        else:
            found[name].append((word, " ".join(rest.split())))
    return found


def of(stage: list[Instruction], word: str) -> list[str]:
    """The arguments of all such instructions."""
    return [rest for found, rest in stage if found == word]


@pytest.fixture(scope="module")
def file() -> dict[str, list[Instruction]]:
    """The stages."""
    return stages()


def test_a_gpu_by_default_a_cpu_by_argument_and_any_base(
    file: dict[str, list[Instruction]],
) -> None:
    arguments = dict(rest.split("=", 1) for rest in of(file["global"], "ARG"))
    assert arguments["DEVICE"] == "cuda"
    for device in ("cuda", "cpu"):
        base = arguments[f"{device.upper()}_BASE_IMAGE"]
        assert of(file[f"base-{device}"], "FROM") == [f"${{{device.upper()}_BASE_IMAGE}}"]
        assert re.search(r":[\w.-]*\d{2,}[\w.-]*$", base) and "latest" not in base, "pinned"
        assert (ROOT / f"requirements/{device}.txt").is_file()
    assert of(file["base"], "FROM") == ["base-${DEVICE}"]


def test_dependencies_come_before_code_and_from_the_locks(
    file: dict[str, list[Instruction]],
) -> None:
    assert of(file["dependencies"], "COPY") == [
        "scripts/install.py scripts/",
        "requirements/${DEVICE}.txt requirements/",
    ]
    (install,) = [run for run in of(file["dependencies"], "RUN") if "install.py" in run]
    assert "--locks-only" in install
    words = [word for word, _ in file[""]]
    copied = of(file[""], "COPY")
    assert copied == ["--from=dependencies /opt/extracot /opt/extracot"]
    (wheel,) = [i for i, (_, rest) in enumerate(file[""]) if "from=wheel" in rest]
    assert words.index("COPY") < wheel, "code in a layer of its own, above"
    assert "--no-index" in file[""][wheel][1], "a wheel that brings nothing unpinned"


def test_it_runs_as_nobody_special_and_gets_signals(file: dict[str, list[Instruction]]) -> None:
    (user,) = of(file[""], "USER")
    assert user == "10001:10001", "by number, so that Kubernetes can see that it is not root"
    (entry,) = of(file[""], "ENTRYPOINT")
    assert json.loads(entry) == ["tini", "--", "extracot-serve"], "no shell in between"
    assert not of(file[""], "CMD")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "extracot-serve" in scripts
    words = [word for word, _ in file[""]]
    last_root = max(i for i, word in enumerate(words) if word in ("RUN", "COPY"))
    assert words.index("USER") > last_root


def test_its_health_is_the_engines(file: dict[str, list[Instruction]]) -> None:
    (check,) = of(file[""], "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command == ["python", "-m", "extracot_server.runtime.probe"]
    assert (ROOT / "server/extracot_server/probe.py").is_file()


def test_what_it_keeps_is_kept_in_one_volume(file: dict[str, list[Instruction]]) -> None:
    assert of(file[""], "VOLUME") == ["/cache"]
    (env,) = of(file[""], "ENV")
    given = dict(pair.split("=", 1) for pair in env.split())
    assert given["HOME"] == given["XDG_CACHE_HOME"] == "/cache"
    for name, value in given.items():
        if name.startswith("EXTRACOT_"):
            assert name.removeprefix("EXTRACOT_").lower() in Settings.model_fields
            assert value
    assert of(file[""], "EXPOSE") == [given["EXTRACOT_PORT"]] == [str(Settings().port)]


def test_no_secret_can_stay_in_a_layer(file: dict[str, list[Instruction]]) -> None:
    for name, stage in file.items():
        for word, rest in stage:
            if word in ("ARG", "ENV"):
                assert not re.search(r"(KEY|TOKEN|PASSWORD|SECRET|INDEX_URL)", rest), (name, rest)
            if "pip.conf" in rest:
                assert "--mount=type=secret,id=pip.conf" in rest


def test_the_builder_sees_what_is_copied_and_nothing_else(
    file: dict[str, list[Instruction]],
) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in admitted)
    sources = {
        source.split("/")[0]
        for stage in file.values()
        for copied in of(stage, "COPY")
        if not copied.startswith("--from")
        for source in copied.split()[:-1]
    }
    assert sources == admitted
    assert {"**/__pycache__", "**/*.pyc"} <= set(rules)


def test_what_builds_it_without_an_engine_is_sound() -> None:
    script = ROOT / "deploy/build-here.sh"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], timeout=60).returncode == 0
    assert "deploy/try_image.py" in script.read_text() and (ROOT / "deploy/try_image.py").is_file()
