"""A progress bar on a terminal, and nothing elsewhere (log files stay readable)."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def progress(total: int | None, what: str, *, done: int = 0) -> Any:
    """A bar over ``total`` steps of which ``done`` were there already (a resumed run).

    To be used in a ``with`` statement; it has tqdm's ``update`` and ``set_postfix``.
    """
    tqdm = import_module("tqdm").tqdm
    return tqdm(total=total, initial=done, desc=what, disable=None, dynamic_ncols=True)
