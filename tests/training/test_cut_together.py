"""A training on two processes whose launcher is ended by kill -9: nobody is left at work in the
folder, the same command goes on as an uncut run would, and one process alone may not go on with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extracot_training.cli import main
from extracot_training.config.sft import SftConfig
from extracot_training.pipeline.checkpoints import CHECKPOINTS, LOG, last_checkpoint, step_of
from extracot_training.pipeline.stage import Manifest
from extracot_training.policy.launching import LAUNCHED, launcher
from tests.training import tiny_policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# argv: after how many steps the second process kills the launcher; then the command's own words.
DOOMED = """
import os, signal, sys
from extracot_training.cli import main
from extracot_training.stages.sft.trainer import BudgetSftTrainer
after = int(sys.argv[1])
step = BudgetSftTrainer.training_step
def killing(self, *args, **kwargs):
    if self.state.global_step == after and os.environ["RANK"] == "1":
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()  # its end comes here
    return step(self, *args, **kwargs)
BudgetSftTrainer.training_step = killing
sys.exit(main(sys.argv[2:]))
"""


def words(config: SftConfig) -> list[str]:
    given = config.model_dump(mode="json", exclude_unset=True).items()
    return ["sft", *(word for k, v in given for word in ("--set", f"{k}={json.dumps(v)}"))]


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Ends when every process that holds its output has ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)


def on_two(config: SftConfig) -> subprocess.CompletedProcess[str]:
    return ran([sys.executable, "-m", "extracot_training.cli", *words(config)])


def settings(**changes: Any) -> dict[str, Any]:
    return {"processes": 2, "batch": 2, "global_batch": 4, "max_steps": 5, **changes}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, a base, and what an uncut run of two processes makes of them."""
    root = tmp_path_factory.mktemp("together")
    tiny_policy.make_all(root)
    done = on_two(tiny_policy.sft_config(root, out=root / "whole", **settings()))
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def test_killed_on_two_it_goes_on_on_two_and_not_on_one(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_policy.sft_config(root, out=tmp_path / "cut", **settings())
    script = tmp_path / "doomed.py"
    script.write_text(DOOMED)
    command = launcher(config, words(config))
    place = command.index("extracot_training.cli")
    command[place - 1 : place + 1] = [str(script), "3"]
    # As the command does before it becomes the launcher.
    shell = f'export {LAUNCHED}=$$; exec "$0" "$@"'
    killed = ran(["sh", "-c", shell, *command])
    assert killed.returncode != 0
    assert step_of(last_checkpoint(config.out / CHECKPOINTS)) == 2, killed.stderr[-3000:]
    assert not (config.out / "model.safetensors").exists()

    alone = config.model_copy(update={"processes": 1})
    assert main(words(alone)) == 1
    told = capsys.readouterr().err
    assert "made with other processes (2, now 1); pass --force" in told and told.count("\n") == 1

    finished = on_two(config)
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = Manifest.load(config.out)
    assert found is not None and found.finished is not None
    whole, cut = (load_file(at / "model.safetensors") for at in (root / "whole", config.out))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    logs = [(at / LOG).read_text().splitlines() for at in (root / "whole", config.out)]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1] and len(losses[0]) == 5
    assert main(words(alone)) == 0, "finished: how it was shared out is of no account"
