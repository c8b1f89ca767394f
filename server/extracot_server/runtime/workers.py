"""Several processes on one port: a parent that keeps its workers alive and passes signals on.

Workers are forks of a small process that holds the socket, so no connection is lost with one of
them: the others take it. Knows nothing of what a worker does, nor of HTTP.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from extracot.processes import end_with_parent
from extracot_server.runtime.hang_ups import HangUps

METRICS_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_STABLE_SECONDS = 60.0  # a worker that served for so long is restarted without a wait
_LONGEST_WAIT = 30.0

Work = Callable[[int, Callable[[], None]], int]
"""A worker's life: its number and what to call once it serves, in; its exit code, out."""


@dataclass(slots=True)
class _Worker:
    """One worker's slot, and the process in it (``pid`` 0: none)."""

    number: int
    pid: int = 0
    ready: bool = False
    since: float = 0.0
    failures: int = 0
    due: float = 0.0
    pipe: int = -1


class Workers:
    """``count`` processes that each run ``work``; ``tell`` takes lines for the operator.

    ``stopping`` is called once no worker will be started any more: what this process holds for
    them is to be given up then, since a socket that nobody accepts on lets clients wait.
    """

    def __init__(
        self,
        count: int,
        work: Work,
        tell: Callable[[str], None],
        stopping: Callable[[], object] = lambda: None,
    ) -> None:
        self._work = work
        self._tell = tell
        self._on_stop = stopping
        self._workers = [_Worker(number) for number in range(count)]
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._code = 0
        self._served = False
        self._parent = os.getpid()

    def run(self) -> int:
        """Until told to stop, or until no worker is left. The exit code."""
        with _signal_numbers() as numbers, _metrics_folder():
            self._numbers = numbers
            self._selector.register(numbers, selectors.EVENT_READ)
            hang_ups = HangUps()
            self._start(self._workers[0])  # alone: what keeps one from starting is reported once
            while not self._over():
                for key, _ in self._selector.select(self._pause()):
                    if key.fileobj is not numbers:
                        self._came_up(key.data)
                        continue
                    for number in numbers.recv(64):
                        self._handle(signal.Signals(number), hang_ups.terminal_closed)
                self._reap()
                self._start_due()
        return self._code

    def _over(self) -> bool:
        """No worker runs, and none will be started."""
        coming = not self._stopping and any(worker.due for worker in self._workers)
        return not coming and not any(worker.pid for worker in self._workers)

    def _pause(self) -> float | None:
        if self._stopping:
            return None
        waits = [worker.due for worker in self._workers if not worker.pid and worker.due]
        return max(0.0, min(waits) - monotonic()) if waits else None

    def _handle(self, number: signal.Signals, terminal_closed: bool) -> None:
        if number is signal.SIGCHLD:
            return
        if number is not signal.SIGHUP or terminal_closed:
            self._stop()
            number = signal.SIGTERM
        self._send(number)

    def _stop(self) -> None:
        """Start no worker from now on; those that run are told by whoever calls this."""
        self._stopping = True
        self._on_stop()

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _came_up(self, worker: _Worker) -> None:
        """It reported that it serves, or ended before it could: then :meth:`_reap` finds it."""
        ready = os.read(worker.pipe, 1)
        self._forget_pipe(worker)
        if not ready:
            return
        worker.ready, worker.since = True, monotonic()
        if not self._served:
            self._served = True
            for other in self._workers:
                other.due = other.due or monotonic()

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
        self._forget_pipe(worker)
        name, was_ready = f"worker {worker.number} ({worker.pid})", worker.ready
        worker.pid, worker.ready = 0, False
        if self._stopping:
            cut_off = code < 0 and code != -signal.SIGTERM  # before it could handle that itself
            self._code = self._code or (1 if cut_off else max(code, 0))
            return
        others = any(other.ready for other in self._workers)
        if not was_ready and not others:  # nothing serves, and what starts does not come up
            self._code = code if code > 0 else 1
            self._stop()
            self._send(signal.SIGTERM)
            return
        if was_ready and monotonic() - worker.since >= _STABLE_SECONDS:
            worker.failures = 0
        wait = min(2.0**worker.failures - 1, _LONGEST_WAIT)
        worker.failures += 1
        worker.due = monotonic() + wait
        how = f"signal {-code}" if code < 0 else f"code {code}"
        self._tell(f"{name} ended with {how}: restarting it in {wait:.0f} s")

    def _start_due(self) -> None:
        now = monotonic()
        for worker in self._workers:
            if not self._stopping and not worker.pid and worker.due and worker.due <= now:
                self._start(worker)

    def _forget_pipe(self, worker: _Worker) -> None:
        if worker.pipe >= 0:
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
            worker.pipe = -1

    # ------------------------------------------------------------------------------ the fork

    def _start(self, worker: _Worker) -> None:
        reading, writing = os.pipe()
        sys.stderr.flush()
        worker.pid = os.fork()
        if not worker.pid:
            os._exit(self._live(worker, reading, writing))
        os.close(writing)
        worker.pipe = reading
        self._selector.register(reading, selectors.EVENT_READ, worker)

    def _live(self, worker: _Worker, reading: int, writing: int) -> int:
        """In the child: leave the parent's things, do the work. Never raises."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            self._numbers.close()
            os.close(reading)
            self._selector.close()
            for number in _HANDLED:
                default = signal.SIG_IGN if number is signal.SIGHUP else signal.SIG_DFL
                signal.signal(number, default)
            os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which passes on one signal
            if not end_with_parent(self._parent, signal.SIGTERM):
                return code

            def serves() -> None:
                os.write(writing, b"1")
                os.close(writing)

            code = self._work(worker.number, serves)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
        return code


@contextlib.contextmanager
def _signal_numbers() -> Iterator[socket.socket]:
    """A socket that the numbers of signals arrive on, as bytes."""
    reading, writing = socket.socketpair()
    with reading, writing:
        for end in (reading, writing):
            end.setblocking(False)
        signal.set_wakeup_fd(writing.fileno())
        before = [(number, signal.signal(number, lambda *_: None)) for number in _HANDLED]
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before:
                signal.signal(number, handler)


@contextlib.contextmanager
def _metrics_folder() -> Iterator[None]:
    """Where workers keep their metrics, for any of them to add up: the variable's, or a new one.

    It is read when `prometheus_client` is imported, so it must not have been imported before.
    """
    name = METRICS_VARIABLES[0]
    given = os.environ.get(name)
    folder = Path(given) if given else Path(tempfile.mkdtemp(prefix="extracot-metrics-"))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.db"):  # of another run: its counters are not ours
        old.unlink()
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if given is None:
            del os.environ[name]
            shutil.rmtree(folder, ignore_errors=True)


def forget_metrics_folder() -> str | None:
    """Unset the variable that makes metrics a matter of files; its name, if one was set.

    One process needs no files, and vLLM in the same process must not find it.
    """
    found = [name for name in METRICS_VARIABLES if os.environ.pop(name, None) is not None]
    return found[-1] if found else None
