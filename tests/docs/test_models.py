"""docs/models.md: the table of chat templates, the settings of a model."""

from __future__ import annotations

import re

import scripts.template_table as written
from extracot_server.config.model_settings import ModelSettings


def test_the_table_of_templates_is_what_the_templates_do() -> None:
    document = written.DOCUMENT.read_text()
    assert written.with_table(document) == document, "run python scripts/template_table.py"


def test_each_model_has_a_row() -> None:
    rows = written.table(written.DOCUMENT.read_text()).splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(written.MODELS)


def test_every_setting_of_a_model_is_named_and_no_other() -> None:
    document = written.DOCUMENT.read_text()
    (listed,) = re.findall(r"An entry takes `name` and(.*?)\. What it leaves out", document, re.S)
    # A model's name there is `name`.
    expected = set(ModelSettings.model_fields) - {"served_model_name"}
    assert set(re.findall(r"`(\w+)`", listed)) == expected
