"""What a collection has to look at while the server serves, and what is freed all the same."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from extracot_server.engine.vllm import engine
from extracot_server.engine.vllm.process import collect
from extracot_server.freeze_gc import freeze

SERVING = """
import atexit, gc, os, signal, sys
from extracot_server.cli import bind, run_loop, serve
from extracot_server.config.settings import load_settings

def ready():
    print(len(gc.get_objects()), gc.get_freeze_count(), gc.get_threshold()[0], flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

atexit.register(lambda: print(gc.get_freeze_count()))  # the last one of all
settings = load_settings(["--engine", "scripted", "--port", "0"])
run_loop(serve(settings, bind(settings.host, settings.port), lambda line: None, ready))
"""


class Ring:
    """Something that only a collection can free."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """The heap of the tests' own process is left as it was."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_collection_while_serving_looks_at_little_of_the_heap() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVING], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    searched, left_out, new, at_the_end = map(int, done.stdout.split())
    assert left_out > 10_000  # what was imported and built before the first request
    assert searched < left_out / 20
    assert new > 10 * 700  # what Python would search after so few new objects
    assert at_the_end == 0


def test_an_engine_that_has_ended_is_freed_though_it_was_frozen() -> None:
    ended, lives = Ring(), Ring()
    gone, there = weakref.ref(ended), weakref.ref(lives)
    freeze()
    del ended
    gc.collect()
    assert gone() is not None  # an ordinary collection leaves it alone
    collect()
    assert gone() is None and there() is lives
    assert gc.get_freeze_count() > 0  # what still lives is left out again


def test_what_was_never_frozen_is_not_by_an_engine_that_ends() -> None:
    collect()
    assert gc.get_freeze_count() == 0


@pytest.mark.anyio
@pytest.mark.parametrize("serving", [True, False])
async def test_an_engine_that_ends_with_its_server_is_left_to_the_kernel(
    monkeypatch: pytest.MonkeyPatch, serving: bool
) -> None:
    async def ended(llm: object) -> None:
        """Its processes are gone."""

    monkeypatch.setattr(engine, "end", ended)
    closing = engine.VllmEngine("a model", engine_args={}, shutdown_grace=0)
    closing._llm, ring = SimpleNamespace(errored=False), Ring()
    gone = weakref.ref(ring)
    if serving:
        freeze()
    del ring
    await closing.close(0)
    assert (gone() is None) == (not serving)
