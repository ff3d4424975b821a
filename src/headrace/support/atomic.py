"""Files that appear whole or not at all. The only place that renames files."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..errors import OutputError
from .places import absolute

TRIES = 10
"""Of making a file that others begin and remove at the same time."""


@dataclass(frozen=True)
class Partial:
    """A file in the making.

    Parameters
    ----------
    path
        Its name.
    handle
        Of it, for as long as it is made.
    """

    path: Path
    handle: int

    def file(self) -> IO[bytes]:
        """Open it for writing from its beginning."""
        return os.fdopen(self.open(os.O_WRONLY | os.O_TRUNC), "wb")

    def open(self, flags: int) -> int:
        """Open it once more, and nothing that has been put in its place."""
        handle = os.open(self.path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not os.path.samestat(os.fstat(handle), os.fstat(self.handle)):
            os.close(handle)
            raise self.replaced()
        return handle

    def there(self) -> bool:
        """Return whether its name still means it."""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self.handle))
        except FileNotFoundError:
            return False

    def replaced(self) -> OutputError:
        """Say that somebody has put something else in its place."""
        return OutputError(
            f"{self.path} was replaced or removed by another process while it was written; nothing was left of the "
            "output. Write to a folder where nobody else can"
        )


@contextmanager
def atomic_file(target: Path, overwrite: bool = False) -> Iterator[Partial]:
    """Yield a file beside `target` to write to; it becomes `target` only if the block succeeds.

    The file is flushed to disk before it is renamed, so that after a crash there is the old file or
    the new one. An exception removes it. A kill leaves it behind under its own name, and the next
    run for the same target removes it. Two runs for one target are refused. No link is followed, and what
    another process puts in its place does not become `target`.

    Raises
    ------
    OutputError
        If `target` exists and `overwrite` is False, its folder does not, or another run writes to it.
    """
    target = followed(target)
    check_target(target, overwrite)
    partial = _begun(target)
    try:
        try:
            yield partial
            check_target(target, overwrite)
            with _named(f"writing {target} failed; nothing was left there"):
                os.fsync(partial.handle)
                if not partial.there():
                    raise partial.replaced()
                os.replace(partial.path, target)
        except BaseException:
            with suppress(OSError):
                if partial.there():
                    os.unlink(partial.path)
            raise
        if not replace(partial, path=target).there():
            raise OutputError(f"{target} is not what was written: another process has put it there; look into it")
        with _named(f"{target} is whole and in place, but the disk does not confirm its name; check the disk"):
            _sync_folder(target.parent)
    finally:
        os.close(partial.handle)


def _begun(target: Path) -> Partial:
    """Make the file and hold it. What an earlier run has left is removed, not written to: it may be a link."""
    path = target.with_name(f".{target.name}.partial")
    for _ in range(TRIES):
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            _remove_left(path, target)
            continue
        except OSError as error:
            raise OutputError(f"cannot write to {target.parent}: {error.strerror}") from error
        made = Partial(path, handle)
        if _lock(handle) and made.there():  # else another run begins just now, and takes it for something left
            return made
        os.close(handle)
    raise _busy(target)


def _remove_left(path: Path, target: Path) -> None:
    """Remove what a run that was killed has left, unless a run still writes it."""
    if path.is_symlink():
        raise OutputError(f"{path} is a symbolic link, which headrace does not make; remove it")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot write to {target.parent}: {path} is there: {error.strerror}; remove it") from error
    try:
        if not _lock(handle):
            raise _busy(target)
        with _named(f"cannot write to {target.parent}: {path} cannot be removed"), suppress(FileNotFoundError):
            if Partial(path, handle).there():
                os.unlink(path)
    finally:
        os.close(handle)


def _busy(target: Path) -> OutputError:
    return OutputError(f"another run is writing {target}; wait for it, or choose another name")


def followed(target: str | os.PathLike[str]) -> Path:
    """Return the file that a name stands for: of a symbolic link, what it points at, whether that is there or not.

    Raises
    ------
    OutputError
        If links lead in a circle.
    """
    path = absolute(target)
    if not path.is_symlink():
        return path
    with suppress(OSError, RuntimeError):  # Python 3.11 and 3.12 raise for a circle, 3.13 returns a link of it
        found = path.resolve()
        if not found.is_symlink():
            return found
    raise OutputError(f"{path} is a symbolic link that leads in a circle; remove it")


def write_atomically(data: bytes, target: Path, shared: bool = False) -> None:
    """Write a small file whole or not at all; not flushed to disk, for what can be made again.

    `shared`: other processes may write the same file at the same time, and the last one wins.
    """
    own = f".{os.getpid()}-{secrets.token_hex(4)}" if shared else ""
    partial = target.with_name(f".{target.name}{own}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def write_within(folder: int, name: str, data: bytes, shared: bool = False) -> None:
    """Write a small file of a folder that is held open; as `write_atomically`, and whatever is put in its place."""
    with written_within(folder, name, shared) as file:
        write_all(file, data)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all of it to a file without a buffer."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


@contextmanager
def written_within(folder: int, name: str, shared: bool = False) -> Iterator[IO[bytes]]:
    """Yield a file to write to, without a buffer; it gets its name in a folder that is held open when the block ends.

    `shared`: other processes may write the same file at the same time, and the last one wins.
    """
    partial = f".{name}.{os.getpid()}-{secrets.token_hex(4)}.partial" if shared else f".{name}.partial"
    try:
        with suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(partial, flags, 0o600, dir_fd=folder), "wb", buffering=0) as file:
            yield file
        os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for one run; a second one is refused."""
    with _named(f"cannot open {what} {folder}"):
        handle = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(handle):
            raise OutputError(f"another run is using {what} {folder}; wait for it, or choose another")
        yield
    finally:
        os.close(handle)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise `OutputError` if `target`, or what it links to, must not or cannot be written."""
    try:
        named, target = target, followed(target)
        target.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(f"cannot write {target}: the name is too long; choose a shorter one") from error
        raise OutputError(f"cannot write {target}: {error.strerror}; choose another folder") from error
    if target.exists() and not target.is_file() and not target.is_dir():
        raise OutputError(f"{target} is no file, but a pipe or device; give the name of a file")
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give the name of a file")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; overwrite=True (on the command line --overwrite) replaces it")
    if not target.parent.is_dir():
        link = f" ({named} links there)" if named != target else ""
        raise OutputError(f"there is no folder {target.parent} to write {target.name} to{link}")


def _lock(handle: int) -> bool:
    """Lock an open file for this run; return False if another run has it, True also where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # Lustre without "-o flock", FUSE, NFS without its lock service: `try_target` has said so
        return True
    return True


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn the system's error into ours."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{what}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such thing
            raise
    finally:
        os.close(handle)
