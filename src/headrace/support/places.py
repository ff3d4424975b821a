"""Paths that users give, and what the system says of them: each of its refusals as an error of ours."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from ..errors import InputError, OutputError

MISSING = (errno.ENOENT, errno.ENOTDIR)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the path from the root; no link is followed.

    Raises
    ------
    InputError
        If it is relative, and the folder that this process is in was removed.
    """
    try:
        return Path(os.path.abspath(path))
    except FileNotFoundError:
        raise InputError(
            f"{os.fspath(path)!r} is relative to the folder that this process is in, which was removed: cd to another "
            "one, or give the path from the root"
        ) from None


def look(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return what the system says of a file or folder; None if there is none.

    `Path.exists` and `Path.is_file` raise the system's errors, as of a folder that one may not enter or of names that
    are too long, in Python 3.11 to 3.13, and take them for "there is none" in others.

    Raises
    ------
    InputError
        If it cannot be told.

    Examples
    --------
    >>> look("nowhere/at/all") is None
    True
    """
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in MISSING:
            return None
        shown = os.fspath(path)
        shown = shown if len(shown) < 300 else f"{shown[:300]}..."
        raise InputError(f"cannot open {shown!r}: {error.strerror}") from None
    except ValueError as error:  # NUL, or a text that is no Unicode
        why = "no path has a NUL (\\0) in it" if "\0" in os.fspath(path) else "it is no Unicode"
        raise InputError(f"{os.fspath(path)!r}: {why}") from error


def nearest(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there.

    Raises
    ------
    OutputError
        If the system does not let it be made, as where a name is too long.
    """
    while True:
        try:
            os.stat(folder)
        except OSError as error:
            if error.errno not in (*MISSING, errno.ELOOP, errno.EACCES):
                shown = str(folder) if len(str(folder)) < 300 else f"{str(folder)[:300]}..."
                raise OutputError(f"cannot write to {shown}: {error.strerror}; choose another folder") from error
            folder = folder.parent
        else:
            return folder


def temporary() -> Path:
    """Return the system's temporary folder; raise `OutputError` if there is none."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OutputError(
            "there is no folder for temporary files: none of TMPDIR, /tmp, /var/tmp and the folder that this process "
            "is in can be written; set TMPDIR to one that can"
        ) from error
