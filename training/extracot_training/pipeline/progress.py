"""What a stage says while it works: a progress bar on a terminal only (log files stay readable),
and warnings, a line each."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def progress(total: int | None, what: str, *, done: int = 0) -> Any:
    """A bar over ``total`` steps of which ``done`` were there already (a resumed run).

    To be used in a ``with`` statement; it has tqdm's ``update`` and ``set_postfix``.
    """
    tqdm = import_module("tqdm").tqdm
    return tqdm(total=total, initial=done, desc=what, disable=None, dynamic_ncols=True)


def warn(message: str) -> None:
    """One line on standard error, for what is allowed and hardly meant."""
    print(f"extracot-train: warning: {message}", file=sys.stderr)


def warn_of_copies(temperature: float | None, number: int, setting: str) -> None:
    """Warn where greedy decoding is asked for several replies to the same prompt."""
    if temperature == 0 and number > 1:
        warn(
            f"{setting} is {number} at temperature 0: all {number} replies to a prompt are the "
            f"same one; set {setting} to 1, or a temperature above 0"
        )
