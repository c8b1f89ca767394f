"""``extracot playground``: serves the page in the browser until Ctrl-C."""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
import threading

from extracot_client.errors import ConfigurationError, InvalidArgumentError

_LOCAL = "127.0.0.1,localhost,::1"


def run(arguments: argparse.Namespace) -> int:
    """Serve; raises :class:`ConfigurationError` without Gradio or where the port is taken."""
    if not 1 <= arguments.port <= 65535:
        raise InvalidArgumentError(f"--port is 1 to 65535, not {arguments.port}", param="port")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigurationError("The playground needs Gradio (pip install 'extracot[playground]')")
    from extracot_client.playground.backend import Backend

    backend = Backend(
        arguments.base_url, arguments.api_key, timeout=arguments.timeout, model=arguments.model
    )
    # Gradio asks its own port whether it is up, which must not go through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), _LOCAL)))
    where = f"{arguments.host}:{arguments.port}"
    try:
        # Gradio's own message for this names its own variables and arguments.
        socket.create_server((arguments.host, arguments.port)).close()
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigurationError(f"The playground cannot listen on {where}: {reason}") from None
    from extracot_client.playground.page import build_playground, launch_options

    page = build_playground(backend)
    try:
        _, url, _ = page.launch(
            server_name=arguments.host,
            server_port=arguments.port,
            share=False,
            inbrowser=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            **launch_options(),
        )
    except OSError as error:
        message = f"The playground cannot listen on {where}: {' '.join(str(error).split())}"
        raise ConfigurationError(message) from None
    sys.stderr.write(f"extracot: playground at {url} (asks {backend.url}); Ctrl-C ends it\n")
    sys.stderr.flush()
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)
    return 0
