"""Mounts pages that other packages provide, found by their entry points.

The server imports no such package and knows no more of it than a name and a call: ``mount(app,
path, base_url)``. What is mounted talks to the server the way everybody does, over HTTP.
"""

from __future__ import annotations

import importlib.metadata

from extracot.errors import ExtracotError

GROUP = "extracot.mounts"


class MountError(ExtracotError):
    """A page is not installed; the message is one line."""


def mount_page(app: object, name: str, base_url: str) -> None:
    """Put the page ``name`` under ``/name`` of ``app``, before its lifespan begins.

    Raises :class:`MountError` if there is no such page or what it needs is not installed.
    """
    found = importlib.metadata.entry_points(group=GROUP, name=name)
    if not found:
        raise MountError(f"no installed package brings a {name} (entry point {GROUP}: {name})")
    try:
        next(iter(found)).load()(app, f"/{name}", base_url)
    except ImportError as error:
        raise MountError(
            f"the {name} cannot be loaded: {error}; pip install 'extracot[{name}]'"
        ) from None
