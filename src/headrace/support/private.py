"""Folders of one's own: what lies in them is believed later, so nobody else may have put it there."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import OutputError
from .places import temporary

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Folder:
    """A folder of one's own, held open: whoever puts another in its place does not change what is written and read.

    Parameters
    ----------
    handle
        Of the folder.
    doubtful
        Whether others could write to it until now.
    """

    handle: int
    doubtful: bool

    def open(self, name: str) -> IO[bytes]:
        """Open a file in it for reading; links are not followed."""
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.handle)
        try:
            return open(file, "rb")
        except OSError:  # a folder
            os.close(file)
            raise

    def read(self, name: str) -> bytes:
        """Return what a file in it holds."""
        with self.open(name) as opened:
            return opened.read()

    def names(self) -> set[str]:
        """Return the names of all files in it."""
        return set(os.listdir(self.handle))

    def remove(self, name: str) -> None:
        """Remove a file in it, or a folder; if it cannot be, it stays."""
        try:
            os.unlink(name, dir_fd=self.handle)
        except IsADirectoryError:
            shutil.rmtree(name, ignore_errors=True, dir_fd=self.handle)  # no link is followed
        except OSError:
            pass

    def empty(self) -> None:
        """Remove all that is in it."""
        for name in os.listdir(self.handle):
            self.remove(name)


@contextmanager
def own_folder(folder: Path, what: str, remedy: str) -> Iterator[Folder]:
    """Make a folder that only its owner can use (mode 700), or take the one that is there, if it is one's own.

    Parameters
    ----------
    what, remedy
        What it is, and what to do where it cannot be, for messages.

    Raises
    ------
    OutputError
        If it cannot be made, is a link, or belongs to somebody else.
    """
    made = False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            made = True
        if folder.is_symlink():
            raise OutputError(f"{what} {folder} is a symbolic link, which is not followed; remove it, or {remedy}")
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(f"cannot make {what} {folder}: {error.strerror}; {remedy}") from error
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() and found.st_uid != _owner_of_files(handle):
            raise OutputError(
                f"{what} {folder} belongs to another user ({found.st_uid}): what lies there is not believed; {remedy}"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            with suppress(OSError):  # of a file system without modes
                os.fchmod(handle, 0o700)
        yield Folder(handle, doubtful=not made and bool(found.st_mode & OTHERS_WRITE))
    finally:
        os.close(handle)


def temporary_folder(name: str) -> Path:
    """Return a folder for files of one's own in the system's temporary folder, where everybody may make folders.

    If somebody else has made one of that name, it has another name, which nobody can guess.

    Examples
    --------
    >>> temporary_folder("headrace-spool").name.startswith(f"headrace-spool-{os.getuid()}")
    True
    """
    folder = temporary() / f"{name}-{os.getuid()}"
    try:
        found = os.lstat(folder)
    except OSError:
        return folder  # made where it is needed
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return folder if own else folder.with_name(f"{folder.name}-{secrets.token_hex(8)}")


def _owner_of_files(handle: int) -> int | None:
    """Return who owns what is made in a folder: some network file systems give all files to one user."""
    name = f".{secrets.token_hex(8)}"
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=handle))
        try:
            return os.stat(name, dir_fd=handle, follow_symlinks=False).st_uid
        finally:
            os.unlink(name, dir_fd=handle)
    except OSError:
        return None
