"""The table of chat templates in docs/models.md."""

from __future__ import annotations

import scripts.template_table as written


def test_the_table_of_templates_is_what_the_templates_do() -> None:
    document = written.DOCUMENT.read_text()
    assert written.with_table(document) == document, "run python scripts/template_table.py"


def test_each_model_has_a_row() -> None:
    rows = written.table(written.DOCUMENT.read_text()).splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(written.MODELS)
