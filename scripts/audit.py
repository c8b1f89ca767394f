"""Asks an advisory database about every pinned dependency: known vulnerabilities, by pip-audit.

``python scripts/audit.py`` reads the locks of requirements/, but for those of other projects'
clients, which only tests run. Exit codes: 0 nothing known, 1 findings, 3 nothing could be audited
(the service is not reachable from here). It has its own environment in build/audit, so that the
tool's many dependencies never meet ours. Findings that do not concern us are listed, with the
reason, in requirements/audit.txt: ``ID  reason``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VERSION = "2.10.1"
ENVIRONMENT = ROOT / "build" / "audit"
EXCEPTIONS = ROOT / "requirements" / "audit.txt"
# Known to have several: an answer without any comes from an empty database.
PROBE = "requests==2.19.0"
NOT_AUDITED = 3


def main() -> int:
    """Audit, and say in one line how it went."""
    if not (ENVIRONMENT / "bin" / "pip-audit").exists():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        command = [str(ENVIRONMENT / "bin" / "pip"), "install", "-q", f"pip-audit=={VERSION}"]
        if subprocess.run(command, check=False).returncode != 0:
            return _not_audited(f"pip-audit {VERSION} cannot be installed")
    if not findings(report([PROBE])):
        return _not_audited("no advisory service can be reached from here")
    asked = pins()
    answer = report(asked)
    skipped = [d["name"] for d in answer["dependencies"] if "skip_reason" in d]
    explained = exceptions()
    open_ones = [line for id_, line in findings(answer) if id_ not in explained]
    for line in open_ones:
        print(f"audit: {line}")
    if skipped:
        print(f"audit: unknown to the service: {', '.join(sorted(skipped))}")
    print(
        f"audit: {len(asked) - len(skipped)} of {len(asked)} pins audited, "
        f"{len(open_ones)} open findings, {len(explained)} explained"
    )
    return 1 if open_ones else 0


def _not_audited(why: str) -> int:
    print(f"audit: NOTHING WAS AUDITED: {why}", file=sys.stderr)
    return NOT_AUDITED


def pins(folder: Path = ROOT / "requirements") -> list[str]:
    """Every ``name==version`` of the locks, once; of local builds the public version.

    Locks of clients are left out: they pin the same packages at other versions, one each.
    """
    found = set()
    for path in sorted(set(folder.glob("*.txt")) - set(folder.glob("clients-*.txt"))):
        for line in path.read_text().splitlines():
            pin = line.split(";")[0].split(" ")[0].strip()
            if "==" in pin and not pin.startswith("#"):
                found.add(pin.split("+")[0].rstrip("\\").strip())
    return sorted(found)


def exceptions(path: Path = EXCEPTIONS) -> set[str]:
    """Identifiers of findings that were looked at and do not concern us."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


def findings(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Each known hole: its identifier, and a line that says what to do."""
    return [
        (
            hole["id"],
            f"{package['name']} {package['version']}: {hole['id']}, "
            f"fixed in {', '.join(hole['fix_versions']) or 'no release'}",
        )
        for package in answer["dependencies"]
        for hole in package.get("vulns", ())
    ]


def report(requirements: list[str]) -> dict[str, Any]:
    """pip-audit's JSON about these pins; an empty one where it could not ask."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements) + "\n")
        file.flush()
        options = ["--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"]
        command = [str(ENVIRONMENT / "bin" / "pip-audit"), "-r", file.name, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:  # it ended in a traceback: no network
        return {"dependencies": []}
    return answer


if __name__ == "__main__":
    sys.exit(main())
