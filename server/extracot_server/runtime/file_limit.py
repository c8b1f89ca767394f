"""The limit of open files: each connection and each stream to an engine takes one.

Containers begin with 1,024 (Docker 29, containerd 2.1.5), of which idle connections take theirs,
too: beyond them every connection is reset, health checks among them, and nothing says why.
"""

from __future__ import annotations

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

_ENOUGH = 65_536


def raise_file_limit() -> int | None:
    """Raise the soft limit to the hard one, or to what is enough; the limit, if there is one."""
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a system that allows less than its hard limit says
        return soft
    return wanted
