"""Writes the table of families in docs/profiles.md from the profiles themselves.

``python scripts/profile_table.py`` rewrites it; a test fails while it is out of date.
"""

from __future__ import annotations

from pathlib import Path

from extracot_server.profiles.profile import Profile
from extracot_server.profiles.profile_file import built_in

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "profiles.md"
START, END = "<!-- families -->", "<!-- end of families -->"
_HEAD = (
    *("profile", "models", "tags", "`none` is", "efforts told", "tool parser"),
    *("earlier reasoning", "baseline", "sampling"),
)
_KEEPS = {"never": "dropped", "always": "kept", "tool_chain": "within a chain of calls"}


def _code(text: str) -> str:
    return f"`` {text} ``".replace("|", "\\|")


def _off(profile: Profile) -> str:
    off = [f"`{n}: {str(s.off).lower()}`" for n, s in profile.switches.items() if s.off is not None]
    if off:
        return ", ".join(off)
    return "the answer's channel" if profile.tags.begins_answer else "an empty block"


def _efforts(profile: Profile) -> str:
    told = [", ".join(profile.efforts)] if profile.efforts else []
    if profile.budget_switch is not None:
        told.append(f"the cap, as `{profile.budget_switch}`")
    return "; ".join(told) or "none"


def _sampling(profile: Profile) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in profile.sampling.items())


def row(profile: Profile) -> tuple[str, ...]:
    """A family's cells."""
    return (
        f"`{profile.name}`",
        profile.models,
        f"{_code(profile.tags.start)} {_code(profile.tags.end)}",
        _off(profile),
        _efforts(profile),
        f"`{profile.tool_parser}`" if profile.tool_parser else "",
        _KEEPS[profile.keeps_reasoning],
        f"{profile.baseline:,}" if profile.baseline else "",
        _sampling(profile),
    )


def table() -> str:
    """The Markdown table, a row a family."""
    rows = [_HEAD, ("---",) * len(_HEAD), *map(row, built_in())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def updated(document: str) -> str:
    """The document with the table between its two marks made again."""
    before, _, rest = document.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
