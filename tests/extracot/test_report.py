"""What a reply reports: exact as a schema, lenient to read."""

from __future__ import annotations

from extracot.report import BudgetReport, Usage


def test_a_reader_takes_what_other_releases_send() -> None:
    older = BudgetReport.model_validate({"level": "0.2"})
    assert (older.level, older.arm, older.reasoning_tokens, older.cap_hit) == ("0.2", *[None] * 3)
    newer = BudgetReport.model_validate({"source": "a new word", "carbon": 1.5})
    assert newer.source == "a new word" and newer.model_extra == {"carbon": 1.5}
    assert BudgetReport.model_validate({}).model_dump() == dict.fromkeys(BudgetReport.model_fields)
    assert Usage.model_validate({"completion_tokens": 3}).reasoning_tokens is None
    details = {"completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0}}
    assert Usage.model_validate(details).reasoning_tokens == 2
    assert Usage.model_validate(details).cached_tokens is None
    details = {"prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0}}
    assert Usage.model_validate(details).cached_tokens == 16


def test_the_schema_is_what_this_release_sends() -> None:
    schema = BudgetReport.model_json_schema()
    fields = schema["properties"]
    assert schema["required"] == [*fields] and schema["additionalProperties"] is False
    assert fields["cap_hit"]["type"] == "boolean" and "anyOf" not in fields["cap_hit"]
    assert fields["enforcement"]["enum"] == [
        *("token", "cap", "token+cap", "effort", "effort+cap", "none"),
    ]
    assert {"type": "null"} in fields["arm"]["anyOf"]
    assert all(field["description"] and "default" not in field for field in fields.values())


def test_only_what_is_known_of_the_prompt_is_sent() -> None:
    schema = Usage.model_json_schema()
    assert set(schema["properties"]) - set(schema["required"]) == {"prompt_tokens_details"}
    assert "prompt_tokens_details" not in Usage(prompt_tokens=3).as_openai()


def test_an_object_of_the_api_has_every_field_in_order() -> None:
    report = BudgetReport(requested=0.2, baseline_tokens=70.0)
    assert list(report.as_object()) == list(BudgetReport.model_fields)
    later = report.model_copy(update={"requested": None})
    assert list(later.as_object()) == list(BudgetReport.model_fields)
