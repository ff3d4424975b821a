"""Where the members of a SOMA collection are: below the place that was named, or in the same bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

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
    said = f"which is outside {roots[0]} and was not asked for; if you trust who made it, outside=True reads it"
    places = {f"member {name!r}": members[name][0] for name in names if name in members}
    for name, uri in places.items():
        if not any(is_inside(root, uri) for root in roots):
            raise InputError(f"{opened.uri}: its {name} is at {uri}, {said}")
    for name, uri in {"own record": opened.uri, **places}.items():
        for link in _links(uri):
            if not any(is_inside(root, link) for root in roots):
                raise InputError(f"{opened.uri}: of its {name}, {link} is a link to {os.path.realpath(link)}, {said}")


def is_inside(root: str, uri: str) -> bool:
    """Return whether an address is below another, or in the same bucket; links of the file system are followed.

    Examples
    --------
    >>> is_inside("s3://bucket/census/soma", "s3://bucket/other"), is_inside("s3://bucket/x", "s3://other/x")
    (True, False)
    >>> is_inside("/data/soma", "file:///data/soma/obs"), is_inside("/data/soma", "file:///data/soma/../obs")
    (True, False)
    >>> is_inside("s3://bucket/soma", "s3://bucket/../other/soma")  # some servers have the bucket in the path
    False
    """
    if _is_local(uri) or _is_local(root):
        path, above = _path(uri), os.path.realpath(_path(root))
        # TileDB takes ".." now as the system does, after links, and now as text
        ways = [os.path.realpath(way) for way in (path, os.path.normpath(path))]
        return _is_local(uri) and _is_local(root) and {os.path.commonpath([above, way]) for way in ways} == {above}
    return _bucket(uri) == _bucket(root)


def _is_local(uri: str) -> bool:
    scheme, colon, _ = uri.partition("://")
    return not colon or scheme.lower() == "file"


def _path(uri: str) -> str:
    """Return the path of what is on this computer."""
    _, colon, rest = uri.partition("://")
    return ((rest if rest.startswith("/") else "/" + rest.partition("/")[2]) if colon else uri).split("\0")[0]


def _bucket(uri: str) -> tuple[str, str]:
    """Return scheme and bucket or server; what leads out of the bucket is in none but its own."""
    scheme, _, rest = uri.partition("://")
    place, _, path = rest.partition("/")  # as TileDB does: "?" and "#" are letters as any other
    depth = 0
    for part in unquote(path).split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return "", uri
    return SAME.get(scheme.lower(), scheme.lower()), place.lower()


def _links(uri: str) -> Iterator[str]:
    """Yield the links among the files in which TileDB keeps a local array or collection, members apart."""
    if not _is_local(uri):
        return
    try:
        inside = [entry for entry in os.scandir(_path(uri)) if entry.name.startswith("__")]
    except OSError:
        return  # opening it says what is wrong
    for entry in inside:
        if entry.is_symlink():
            yield entry.path
        elif entry.is_dir():
            for place, folders, files in os.walk(entry.path):
                yield from filter(os.path.islink, (os.path.join(place, name) for name in folders + files))
