"""What SmolLM2 is trained on: no held-out family in any configuration, requests that differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from extracot_training.config.load import load_config
from extracot_training.config.problems import GeneratorSource, ProblemsConfig
from extracot_training.config.teach import TeachConfig
from extracot_training.pipeline.records import Problem, Trace, read_rows
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.stages.mix.stage import run as mix
from extracot_training.stages.problems.stage import run as problems
from extracot_training.stages.teach.stage import run as teach
from extracot_training.synthetic import FAMILIES
from extracot_training.synthetic.everyday import KINDS, NothingNewError, requests
from tests.training.openai_server import completion, serve
from tests.training.tiny_policy import make_base, mix_config

CONFIGS = Path("training/configs")
HELD_OUT_FILE = "problems-smollm2-heldout.yaml"
HELD_OUT = frozenset(
    (
        *("ages", "compare", "fence", "hens", "laps_compare"),
        *("library", "practice", "recipe", "stairs", "trip"),
    )
)


def trained_on() -> list[Path]:
    return sorted(set(CONFIGS.glob("problems-smollm2*.yaml")) - {CONFIGS / HELD_OUT_FILE})


@pytest.mark.parametrize("path", trained_on(), ids=[path.stem for path in trained_on()])
def test_no_configuration_trains_on_a_held_out_family(path: Path) -> None:
    config = load_config(ProblemsConfig, path)
    for source in config.sources:
        if isinstance(source, GeneratorSource):
            assert source.families is not None, "named, so that none comes in by itself"
            assert HELD_OUT.isdisjoint(source.families)
        assert getattr(source, "split", None) is None


def test_all_other_families_are_trained_on() -> None:
    config = load_config(ProblemsConfig, CONFIGS / "problems-smollm2.yaml")
    named = [source.families for source in config.sources if isinstance(source, GeneratorSource)]
    assert {name for names in named for name in names or ()} == set(FAMILIES) - HELD_OUT


def test_the_held_out_families_make_two_thousand_problems_none_of_them_to_train_on() -> None:
    config = load_config(ProblemsConfig, CONFIGS / HELD_OUT_FILE)
    held = [source for source in config.sources if isinstance(source, GeneratorSource)]
    assert sum(source.size for source in held) > 2300
    for source in held:
        assert set(source.families or ()) == set(source.heldout) == HELD_OUT


def test_held_out_rows_are_in_their_own_split(tmp_path: Path) -> None:
    sizes = [f"sources.{place}.size=20" for place in (0, 1)]
    config = load_config(ProblemsConfig, CONFIGS / HELD_OUT_FILE, [f"out={tmp_path}/p", *sizes])
    problems(config)
    rows = list(read_rows(tmp_path / "p", Problem))
    assert {row.split for row in rows} == {"heldout_families"}
    assert {row.family for row in rows} == HELD_OUT


def test_ordinary_requests_differ_and_are_filled_in() -> None:
    made = list(requests(51, 600))
    assert len({one.text for one in made}) == 600
    assert {one.kind for one in made} == set(KINDS)
    assert not [one.text for one in made if re.search(r"[{}]", one.text)]
    assert made[:50] == list(requests(51, 50))
    with pytest.raises(NothingNewError, match="different requests"):
        list(requests(1, 5000))


def test_replies_to_ordinary_requests_become_native_rows_whatever_they_say(tmp_path: Path) -> None:
    config = load_config(
        ProblemsConfig, CONFIGS / "problems-smollm2-everyday.yaml", [f"out={tmp_path}/p"]
    )
    problems(config)
    assert len(list(read_rows(tmp_path / "p", Problem))) > 590
    said = "Good morning! What can I do for you?"
    with serve(lambda body: completion(said)) as server:
        taught = load_config(
            TeachConfig,
            CONFIGS / "teach-smollm2-everyday.yaml",
            [
                f"input={tmp_path}/p",
                f"out={tmp_path}/teach",
                "limit=4",
                f"backend.base_url={server.url}",
            ],
        )
        teach(taught)
    assert taught.instruction is None
    traces = list(read_rows(tmp_path / "teach", Trace))
    assert [(trace.answer, trace.correct) for trace in traces] == [(said, None)] * 8
    make_base(tmp_path)
    mix(mix_config(tmp_path, compressed=None, traces=tmp_path / "teach"))
    rows = list(read_rows(tmp_path / "mix", MixedRow))
    assert len(rows) == 8 and {(row.kind, row.reasoning_tokens) for row in rows} == {("native", 0)}
