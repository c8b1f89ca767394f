"""Writes the list of modules in docs/architecture.md from the modules' own first lines.

``python scripts/module_index.py`` rewrites it; a test fails while it is out of date.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "architecture.md"
START, END = "<!-- modules -->", "<!-- end of modules -->"
PACKAGES = (
    "extracot",
    "server/extracot_server",
    "training/extracot_training",
    "clients/python/extracot_client",
)


def first_line(source: str) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(source)) or ""
    return " ".join(text.split("\n\n")[0].split())


def index() -> str:
    """The Markdown list: a heading per package, an item per module, wrapped at 160 columns."""
    lines: list[str] = []
    for package in PACKAGES:
        folder = ROOT / package
        lines += ["", f"### {folder.name}", ""]
        for path in sorted(folder.rglob("*.py")):
            said = first_line(path.read_text(encoding="utf-8"))
            item = f"- `{path.relative_to(folder)}`: {said}"
            lines += textwrap.wrap(
                item, 160, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(lines).strip() + "\n"


def updated(document: str) -> str:
    """The document with the list between its two marks made again."""
    before, _, rest = document.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{index()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
