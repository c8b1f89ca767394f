"""Checks that a server is ready: ``python -m extracot_server.runtime.probe [URL]``.

For places that can only run a command (a container's health check). Standard library only, because
it runs every few seconds. Knows nothing of settings but the variable of the port.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

_SECONDS = 4.0


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the URL answers with 200, else 1 after one line on why not.

    A URL without a path means its ``/ready``; without a URL it asks this machine, at the port in
    ``EXTRACOT_PORT``, or at 8000.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    port = os.environ.get("EXTRACOT_PORT") or "8000"
    base = arguments[0] if arguments else f"http://127.0.0.1:{port}"
    url = base if urllib.parse.urlsplit(base).path.strip("/") else f"{base.rstrip('/')}/ready"
    # Health is asked of this very server: a proxy of the environment has no part in it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_SECONDS):
            return 0
    except urllib.error.HTTPError as error:
        reason = f"status {error.code}"
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
    print(f"{url}: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
