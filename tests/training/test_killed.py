"""kill -9 in the middle of the stages that need no server: the same command again ends as an uncut
run would, byte for byte. The process kills itself at a row, so it is always the same one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extracot_training.cli import main
from extracot_training.compression.model import CompressorCard, new_model, save_compressor
from extracot_training.pipeline.records import write_rows
from extracot_training.policy.pretrained import load_tokenizer
from tests.training.tiny import TRACE, save_encoder, trace

pytestmark = pytest.mark.slow

# argv: how many rows may be written, then the command's own words.
DOOMED = """
import os, signal, sys
from extracot_training.pipeline import records
from extracot_training.cli import main
left, write = int(sys.argv[1]), records.JsonlWriter.write
def counted(self, row):
    global left
    if left == 0:
        self._stream.write(b'{"problem_id": "p4", "samp')  # torn in the middle of a line
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(self, row)
records.JsonlWriter.write = counted
sys.exit(main(sys.argv[2:]))
"""


def doomed(rows: int, words: list[str]) -> subprocess.CompletedProcess[str]:
    """The command in a process that dies after so many rows."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DOOMED, str(rows), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the manifest, which tells the time."""
    names = [path for path in folder.iterdir() if path.is_file() and path.name != "stage.json"]
    return {path.name: path.read_bytes() for path in names}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces, and a compressor with random weights."""
    root = tmp_path_factory.mktemp("killed")
    write_rows(root / "teach" / "rows.jsonl", [trace(n, TRACE + " Yes." * n) for n in range(9)])
    save_encoder(root / "encoder")
    card = CompressorCard(
        encoder=str(root / "encoder"), weights="whole", length=96, question=16, overlap=0.25
    )
    save_compressor(new_model(card.encoder, None), load_tokenizer(card.encoder), card, root / "m")
    return root


@pytest.mark.parametrize(
    ("stage", "rows", "settings"),
    [
        ("annotate", 4, ["batch=2"]),
        # Five ratios each: the third trace has two of its rows when the end comes.
        ("compress", 12, ["batch=2", "compressor={root}/m", "tokenizer={root}/encoder"]),
    ],
)
def test_kill_9_loses_and_doubles_no_row(
    root: Path, stage: str, rows: int, settings: list[str]
) -> None:
    def words(out: str) -> list[str]:
        given = [setting.replace("{root}", str(root)) for setting in settings]
        flags = [word for setting in given for word in ("--set", setting)]
        return [stage, "--input", str(root / "teach"), "--out", str(root / out), *flags]

    cut, whole = f"{stage}-cut", f"{stage}-whole"
    killed = doomed(rows, words(cut))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (file,) = (root / cut).glob("*.jsonl")
    assert file.read_bytes().count(b"\n") == rows
    assert not file.read_bytes().endswith(b"\n")
    assert main(words(cut)) == 0
    assert main(words(whole)) == 0
    assert contents(root / cut) == contents(root / whole)
