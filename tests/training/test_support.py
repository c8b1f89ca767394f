"""No result without its calculation: scores that rest on others, and counting what hangs loose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.compression.budget import TokenCounter, spend
from extracot_training.compression.segment import FORMULAS, Kind, segment
from extracot_training.compression.support import loose_results, supported
from extracot_training.config.compress import CompressConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.records import CompressedTrace, read_rows, write_rows
from extracot_training.stages.compress import stage
from extracot_training.stages.compress.stage import ALL_ROWS
from tests.training.tiny import trace, word_tokenizer

COUNTER = TokenCounter(word_tokenizer())
ASKED = "Ann has 3 bags of 4 pens and gives 5 away. Ben buys 2 packs of 7."
WORKED = "Ann, pens: 3 × 4 = 12. Ann, left: 12 - 5 = 7. Ben has 2 × 7 = 14. So 7 and 14, 21 in all."


def scored(text: str, **scores: float) -> tuple[list[str], list[float]]:
    """Bodies of the atoms, and their scores: 1 but for atoms with these results."""
    atoms = segment(text)
    own = [scores.get(f"r{atom.body.rstrip('.,').split()[-1]}", 1.0) for atom in atoms]
    return [atom.body for atom in atoms], supported(ASKED, atoms, own)


def test_a_result_counts_no_more_than_its_calculation() -> None:
    bodies, found = scored(WORKED, r12=0.2)
    counted = dict(zip(bodies, found, strict=True))
    assert counted["3 × 4 = 12."] == counted["12 - 5 = 7."] == 0.2  # rests on 12
    assert counted["2 × 7 = 14."] == counted["21"] == 1.0  # of the question; made nowhere
    assert counted["14,"] == 1.0
    # 7 is stated by the question, too.
    assert found[bodies.index("7", bodies.index("So"))] == 1.0


def test_the_best_of_several_calculations_counts_and_only_what_came_before() -> None:
    text = "It is 12. First 6 + 6 = 12. Or 20 - 8 = 12. So 12 it is."
    atoms = segment(text)
    bodies = [atom.body for atom in atoms]
    own = [{"6 + 6 = 12.": 0.1, "20 - 8 = 12.": 0.6}.get(body, 0.9) for body in bodies]
    found = supported("Which?", atoms, own)
    assert found[bodies.index("12.")] == 0.9
    assert found[bodies.index("12")] == 0.6


def test_a_calculation_that_does_not_hold_gives_nothing() -> None:
    atoms = segment("So 3 × 4 = 13. Then 13 - 5 = 8.")
    assert supported("?", atoms, [0.1] * (len(atoms) - 1) + [0.9])[-1] == 0.9


@given(
    st.lists(
        st.sampled_from(["2 + 3 = 5. ", "5 × 4 = 20. ", "20 pens ", "and ", "20 - 5 = 15. ", "5 "]),
        min_size=1, max_size=12,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_whatever_is_kept_rests_on_what_is_kept(pieces: list[str], rng: object) -> None:
    # Nothing is used before it is made: the calculations in their order come first.
    text = "2 + 3 = 5. 5 × 4 = 20. 20 - 5 = 15. " + "".join(pieces)
    atoms = segment(text)
    scores = supported("?", atoms, [rng.random() for _ in atoms])  # type: ignore[attr-defined]
    for one in spend(text, atoms, scores, [0.1, 0.3, 0.5, 0.8], COUNTER):
        assert loose_results("?", text, one.text) == 0


def test_loose_results_are_those_of_calculations_that_were_left_out() -> None:
    assert loose_results(ASKED, WORKED, WORKED) == 0
    assert loose_results(ASKED, WORKED, "12 - 5 = 7. So 7 and 14, 21 in all.") == 2  # 12 and 14
    assert loose_results(ASKED, WORKED, "3 × 4 = 12. 12 - 5 = 7.") == 0
    assert loose_results(ASKED, WORKED, "") == 0


def settings(tmp_path: Path, **changes: object) -> CompressConfig:
    base = {"input": tmp_path / "traces", "out": tmp_path / "out", "scores": "random", "bucket": 1}
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    cleaning = {"min_tokens": 1, "max_bigram_repeats": 1, "max_trigram_repeats": 1}
    return CompressConfig.model_validate(
        base | {"tokenizer": str(tmp_path / "tokenizer"), "cleaning": cleaning} | changes
    )


def test_the_stage_keeps_results_beside_their_calculations(tmp_path: Path) -> None:
    told = {"reasoning": WORKED, "answer": "\\boxed{21}", "gold": "21"}
    rows = [
        trace(number).model_copy(update={"question": f"{ASKED} Case {letter}.", **told})
        for number, letter in enumerate("abcdefgh")
    ]
    write_rows(tmp_path / "traces" / "rows.jsonl", rows)
    loose: dict[bool, list[float]] = {}
    for tied in (False, True):
        outcome = stage.run(settings(tmp_path, out=tmp_path / str(tied), supported=tied))
        levels = json.loads((outcome.folder / "report.json").read_text())["levels"]
        made = list(read_rows(outcome.folder / ALL_ROWS, CompressedTrace))
        loose[tied] = [of["loose"] for of in levels.values()]
        for target, found in zip((0.2, 0.4, 0.6, 0.8, 1.0), loose[tied], strict=True):
            counted = [
                loose_results(ASKED, WORKED, one.text) for one in made if one.target == target
            ]
            assert found == sum(counted) / 8
        assert f"| {loose[tied][0]:.2f} |" in (outcome.folder / "report.md").read_text()
    assert sum(loose[False]) > sum(loose[True]) == 0


@pytest.mark.parametrize(
    "changes",
    [{"units": "words"}, {"strategy": "steps", "scores": "compressor"}, {"scores": "graph"}],
)
def test_it_is_for_atoms(changes: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="supported is for atoms: want units and strategy atoms"):
        settings(tmp_path, supported=True, **changes)


def test_the_shipped_compressor_chooses_steps(tmp_path: Path) -> None:
    write_rows(tmp_path / "traces" / "rows.jsonl", [trace(0)])
    with pytest.raises(
        StageError, match="supported is for atoms, and this compressor chooses whole"
    ):
        stage.run(settings(tmp_path, supported=True, scores="compressor"))


def test_formulas_of_these_tests_are_read() -> None:
    kinds = [atom.kind for atom in segment(WORKED)]
    assert sum(kind in FORMULAS for kind in kinds) == 3
    assert kinds.count(Kind.NUMBER) == 3
