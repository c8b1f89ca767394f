"""``extracot-serve``: read settings, bind the port, load the model, print an example, serve.

Heavy parts (FastAPI, vLLM) are imported after the settings have been read, so that ``--help`` and
a wrong flag answer at once. Every expected failure is one line on standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

import extracot
from extracot.errors import ExtracotError

try:
    from extracot_server.config import in_force
    from extracot_server.config.settings import Settings, SettingsError, load_settings
    from extracot_server.config.unused import unused_settings
    from extracot_server.observability.logging import ANNOUNCEMENTS, configure_logging
    from extracot_server.runtime.file_limit import raise_file_limit
    from extracot_server.runtime.hang_ups import HangUps
    from extracot_server.runtime.leaving import leave
    from extracot_server.runtime.mounts import mount_page
    from extracot_server.runtime.workers import Workers, forget_metrics_folder
except ModuleNotFoundError as missing:  # the base install has the command, not what it needs
    sys.exit(f"extracot-serve: error: {missing}; run: pip install 'extracot[server]'")

if TYPE_CHECKING:
    from fastapi import FastAPI

    from extracot_server.config.model_settings import ModelSettings

_PATIENCE_SECONDS = 20.0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. 0 after SIGTERM or Ctrl-C, 1 when it cannot serve, 2 for bad settings."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if "--version" in arguments:
        print(f"extracot-serve {extracot.__version__}")
        return 0
    if arguments[:1] == ["keys"]:
        from extracot_server.runtime import keys_command

        return keys_command.run(arguments[1:])
    if arguments[:1] == ["vllm"]:
        from extracot_server.runtime import vllm_command

        return vllm_command.run(arguments[1:])
    hang_ups = HangUps()
    with hang_ups.noted():
        return _serve(arguments, hang_ups)


def _serve(arguments: Sequence[str], hang_ups: HangUps) -> int:
    try:
        settings = load_settings(arguments)
    except SettingsError as error:
        return _fail(str(error), 2)
    configure_logging(settings.log_level, settings.log_format)
    raise_file_limit()
    for line in unused_settings(settings):
        say(line)
    try:
        listener = bind(settings.host, settings.port)
    except ServeError as error:
        return _fail(str(error), 1)
    with contextlib.closing(listener):
        if settings.workers > 1:
            in_force.share()
            hang_ups.came = False  # workers read the files after it
            work = partial(_work, settings, listener, hang_ups)
            return Workers(settings.workers, work, say, listener.close).run()
        if (variable := forget_metrics_folder()) is not None:
            say(f"{variable} is for several workers and is not used")
        return _work(settings, listener, hang_ups)


def _work(
    settings: Settings,
    listener: socket.socket,
    hang_ups: HangUps,
    number: int = 0,
    serves: Callable[[], None] = lambda: None,
) -> int:
    """Serve until told to stop; ``serves`` is called once requests are. The exit code."""
    tell = say if number == 0 else lambda _: None
    try:
        with hang_ups.noted():  # a worker's parent handled them
            run_loop(serve(settings, listener, tell, serves, hang_ups))
    except ExtracotError as error:
        return _fail(str(error), 2 if isinstance(error, SettingsError) else 1)
    except ImportError as error:
        return _fail(f"{error}; install the server with: pip install 'extracot[server]'", 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("stopped")
    return 0


class ServeError(ExtracotError):
    """The server cannot be started for a reason outside the engine."""


def bind(host: str, port: int) -> socket.socket:
    """Take the port before anything slow; raises :class:`ServeError` in one line.

    ``host`` is an address, in a URL's brackets or not, or a name. Of a name's addresses one of IPv4
    is taken, if there is any.
    """
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ServeError(_cannot_listen(host, port, error)) from None
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with _port_errors(host, port, listener):
        listener.bind(address)
    return listener


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    return f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}"


@contextlib.contextmanager
def _port_errors(host: str, port: int, listener: socket.socket) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} on {host} is in use; choose another with --port"
            ) from None
        raise ServeError(_cannot_listen(host, port, error)) from None


async def serve(
    settings: Settings,
    listener: socket.socket,
    tell: Callable[[str], None],
    serves: Callable[[], None],
    hang_ups: HangUps | None = None,
) -> None:
    """Start the engine, serve until a signal, then let running requests finish.

    ``tell`` takes lines for the operator; ``serves`` is called when it is ready. ``hang_ups`` that
    came until then are followed before the first request.
    """
    hang_ups = hang_ups or HangUps()
    if any(model.engine == "vllm" for model in settings.served_models()):
        from extracot_server.engine.vllm import fork_server

        fork_server.start()  # it imports beside this process, whose turn comes with the engine's

    from extracot_server.app import create_app
    from extracot_server.freeze_gc import freeze
    from extracot_server.runtime.connections import notice_vanished_peers
    from extracot_server.runtime.http_server import make_server
    from extracot_server.runtime.reloading import Reloader

    started = perf_counter()
    tell(f"loading {', '.join(_source(model) for model in settings.served_models())} …")
    # Signals are handled to the very end: one must not break off the stop.
    with _handled_signals(hang_ups) as signals, _reminding(tell) as loaded:
        app = create_app(settings)
        if settings.playground:
            mount_page(app, "playground", own_url(listener))
        async with app.router.lifespan_context(app):
            loaded()
            server = make_server(app, app.state.extracot)
            app.state.extracot.give_up = server.give_up
            reloader = Reloader(app.state.extracot, settings, tell)
            signals.reload = reloader
            if hang_ups.came:
                reloader()
                await reloader.done()
            signals.stop = server.stop
            freeze()
            # From here on no client that sees "ready" is refused. Another server may have been
            # faster: two can hold a port until one of them listens.
            with _port_errors(settings.host, settings.port, listener):
                notice_vanished_peers(listener, settings.send_timeout_seconds)
                listener.listen(2048)
            serves()
            for line in _announcement(app, settings, listener, perf_counter() - started):
                tell(line)
            await server.serve(sockets=[listener])
            signals.reload = lambda: None
            await reloader.close()
            if server.gave_up:
                raise ServeError("the engine died, and on_engine_death is exit")
            tell("stopping: all requests have finished or timed out")


@contextlib.contextmanager
def _reminding(tell: Callable[[str], None]) -> Iterator[Callable[[], object]]:
    """While a start takes long, say so from time to time, until what is given is called."""
    task = asyncio.get_running_loop().create_task(remind(tell, _PATIENCE_SECONDS))
    try:
        yield task.cancel
    finally:
        task.cancel()


async def remind(tell: Callable[[str], None], seconds: float) -> None:
    """Every so many seconds a line for whoever waits for the start."""
    why = "; the first start after an installation takes longest: Python compiles what it imports"
    for number in itertools.count(1):
        await asyncio.sleep(seconds)
        tell(f"still loading after {number * seconds:.0f} s{why if number == 1 else ''}")


def run_loop(main_task: object) -> None:
    """``asyncio.run`` on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main_task)  # type: ignore[arg-type]
    else:
        uvloop.run(main_task)  # type: ignore[arg-type]


def say(line: str) -> None:
    """One line for the person who started the server."""
    logging.getLogger(ANNOUNCEMENTS).info(line)


def own_url(listener: socket.socket) -> str:
    """Where this machine reaches the server."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if shown in ("0.0.0.0", "[::]"):
        shown = "127.0.0.1"
    return f"http://{shown}:{port}"


def _announcement(
    app: FastAPI, settings: Settings, listener: socket.socket, seconds: float
) -> Iterator[str]:
    from extracot_server.api.start_page import example_line, levels_line
    from extracot_server.model_registry.routing import canary_lines
    from extracot_server.runtime.reloading import who_may

    url = own_url(listener)
    state = app.state.extracot
    for service in state.services.values():
        model, info = service.model, service.model.runtime.engine.info
        engine = f"{info.kind} {info.version} on {info.device}"
        engine += f" in {info.precision}" if info.precision else ""
        yield f"serving {model.name} ({levels_line(model)}) with {engine}"
        if model.card is not None and model.card.domain:
            yield f"{model.name} knows {model.card.domain}"
    yield f"ready after {seconds:.0f} s at {url}/v1  (metrics {url}/metrics, docs {url}/docs)"
    if settings.workers > 1:
        yield (
            f"{settings.workers} workers; requests_per_minute, concurrency and queues hold for "
            "each of them, quotas for all"
        )
    if settings.playground:
        yield f"playground at {url}/playground/"
    yield who_may(state)
    yield from canary_lines(state)
    if settings.holdout_fraction:
        yield f"holdout: {settings.holdout_fraction:.2%} of budgeted requests run natively"
    if names := state.without_holdout():
        yield (
            f"holdout: {', '.join(names)} may not run natively (a ceiling) and have no part in it"
            + ("" if settings.holdout_at_ceiling else "; see --holdout-at-ceiling")
        )
    yield f"try: {example_line(state, url)}"


def _source(model: ModelSettings) -> str:
    """What is being loaded, in a few words."""
    remote = f"what {', '.join(model.upstream) or model.upstreams} serves"
    found = {"vllm": model.model, "scripted": "the scripted engine"}
    return found.get(model.engine, remote)


@dataclass(slots=True)
class _Signals:
    """What SIGTERM and Ctrl-C do now, and what SIGHUP does."""

    stop: Callable[[], object]
    reload: Callable[[], object]


@contextlib.contextmanager
def _handled_signals(hang_ups: HangUps) -> Iterator[_Signals]:
    """Signals end the start at first; handlers stay, so none falls between loading and serving."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    assert task is not None
    signals = _Signals(task.cancel, hang_ups.note)

    def hang_up() -> None:
        """A terminal that was closed ends the server; anybody else's SIGHUP reloads."""
        (signals.stop if hang_ups.terminal_closed else signals.reload)()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, lambda: signals.stop())
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        yield signals
    finally:
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(name)


def _fail(message: str, code: int) -> int:
    print(f"extracot-serve: error: {message}", file=sys.stderr, flush=True)
    return code


def command() -> NoReturn:
    """The command as it is installed: :func:`main`, and a quick end."""
    leave(main())


if __name__ == "__main__":
    command()
