"""Who may give a server orders and see what is its operator's: keys with ``admin: true``."""

from __future__ import annotations

from fastapi import Request

from extracot_server.api.auth import principal_of
from extracot_server.api.errors import ForbiddenError
from extracot_server.api.exchange import app_state


def check_admin(request: Request, *, orders: bool) -> None:
    """Raise :class:`ForbiddenError` unless the key is an admin's.

    A server without keys shows what it has to everybody, and takes ``orders`` from nobody.
    """
    if not app_state(request).keys.required:
        if orders:
            raise ForbiddenError(
                "This server is open to everybody, so it takes no orders: give it a keys file with "
                "an entry that has `admin: true`.",
                code="not_allowed",
            )
    elif not principal_of(request).admin:
        raise ForbiddenError(
            "This is for keys with `admin: true` in the keys file.", code="not_allowed"
        )
