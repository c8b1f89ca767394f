"""A stage in a process of its own, forked from this one, which it does not outlive.

Its memory and its GPU are free again when it has ended, however it ended. What was imported before
is there already: on a CPU that saves half a minute per training. Knows no stage.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping

from extracot.errors import ExtracotError
from extracot_training.errors import StageError
from extracot_training.pipeline.parents import die_with_parent


def in_child(name: str, work: Callable[[], int], environment: Mapping[str, str]) -> int:
    """What ``work`` returns, an exit code. Raises :class:`StageError` if a signal ended it."""

    parent = os.getpid()

    def child() -> None:
        die_with_parent(parent)
        atexit._clear()  # what is to be cleared up at the end is the parent's
        os.environ.update(environment)
        try:
            code = work()
        except (ExtracotError, OSError) as error:
            print(f"extracot-train: error: {' '.join(str(error).split())}", file=sys.stderr)
            code = 1
        finally:
            atexit._run_exitfuncs()  # trackers send what they still have
        sys.exit(code)

    process = multiprocessing.get_context("fork").Process(target=child, name=name)
    with warnings.catch_warnings():
        # Threads of libraries that wait for work, none of which the child goes on with.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        process.join()
        raise
    code = process.exitcode
    assert code is not None
    if code < 0:
        told = signal.Signals(-code).name
        why = "; out of memory, most likely" if told == "SIGKILL" else ""
        raise StageError(f"stage {name} was ended by {told}{why}; the same command goes on there")
    return code
