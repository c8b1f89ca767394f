"""A run's folder that was moved goes on where it is now."""

from __future__ import annotations

import shutil
from pathlib import Path

from extracot_training.cli import config_class
from extracot_training.pipeline.stage import Manifest, check_settings, planned_manifest
from extracot_training.run.recipe import Effort
from extracot_training.run.remembered import config_file, recall, reload, remember
from extracot_training.run.spending import configured
from tests.training.test_run import options, read_data, recipe


def test_a_folder_that_was_moved_goes_on_where_it_is(tmp_path: Path) -> None:
    made = options(tmp_path)
    sha256 = read_data(made).sha256
    whole = recipe(made)
    steps = configured(whole, Effort.of(whole.preset, 0.1), config_class)
    remember(made, sha256, steps)
    mix = dict((step.name, config) for step, config in steps)["mix"]
    done = planned_manifest("mix", mix, {}).model_copy(update={"finished": "2026"})
    mix.out.mkdir()
    done.save(mix.out)
    place = made.out / "moved"  # below where it was
    made.out.rename(tmp_path / "other")
    place.parent.mkdir()
    (tmp_path / "other").rename(place)
    now = options(tmp_path, out=place)
    for _ in range(2):  # written anew, so that the next time finds nothing to do
        kept = recall(now, sha256)
        assert kept is not None
        again = {step.name: config for step, config in reload(now, kept, config_class)}
        assert list(again) == [step.name for step, _ in steps]
        assert again["mix"].model == str(place / "sft-fixed")
        assert again["chrpo"].replay.rows == place / "mix"
        assert again["problems"].sources[0].path == made.problems
        for config in again.values():
            assert config.out.parent == place
        check_settings("mix", again["mix"])
        found = Manifest.load(again["mix"].out)
        assert found is not None and found.finished == "2026"
    for step, _ in steps:
        text = config_file(place, step.name).read_text()
        assert text.count(str(made.out)) == text.count(str(place)) > 0
    shutil.copytree(place, tmp_path / "copy")
    copied = options(tmp_path, out=tmp_path / "copy")
    kept = recall(copied, sha256)
    assert kept is not None
    for _, config in reload(copied, kept, config_class):
        assert config.out.parent == tmp_path / "copy"
