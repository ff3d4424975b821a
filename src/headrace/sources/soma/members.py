"""Where the members of a SOMA collection are: below the place that was named, or in the same bucket."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ...errors import InputError

SAME = {"gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az"}


def refuse_outside(roots: Sequence[str], opened: Any, *names: str) -> None:
    """Raise `InputError` if members of a collection are neither below one of the roots nor in the same bucket.

    A collection may hold any address: a file of this computer, another server. Nothing is read there.

    Parameters
    ----------
    roots
        Path or URI of what the user named, and where copies of it are.
    opened
        An open SOMA collection.
    names
        The members that are to be read; those that it has not are left to others.
    """
    members = opened.members()
    for name in names:
        if name in members and not any(is_inside(root, members[name][0]) for root in roots):
            raise InputError(
                f"{opened.uri}: its member {name!r} is at {members[name][0]}, which is outside {roots[0]} and was not "
                "asked for; if you trust who made it, outside=True reads it"
            )


def is_inside(root: str, uri: str) -> bool:
    """Return whether an address is below another, or in the same bucket; links of the file system are followed.

    Examples
    --------
    >>> is_inside("s3://bucket/census/soma", "s3://bucket/other"), is_inside("s3://bucket/x", "s3://other/x")
    (True, False)
    >>> is_inside("/data/soma", "file:///data/soma/obs"), is_inside("/data/soma", "file:///data/soma/../obs")
    (True, False)
    """
    kind, place, path = _place(uri)
    root_kind, root_place, root_path = _place(root)
    if (kind, place) != (root_kind, root_place):
        return False
    return bool(kind) or path == root_path or path.startswith(root_path.rstrip("/") + "/")


def _place(uri: str) -> tuple[str, str, str]:
    """Return scheme ("" for this computer), server or bucket, and path."""
    scheme, colon, rest = uri.partition("://")
    scheme = scheme.lower()
    if not colon or scheme == "file":
        path = (rest if rest.startswith("/") else "/" + rest.partition("/")[2]) if colon else uri
        return "", "", os.path.realpath(path)
    parts = urlsplit(uri)
    return SAME.get(scheme, scheme), parts.netloc.lower(), posixpath.normpath(parts.path)
