"""Files that appear whole or not at all. The only place that renames files."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError


@contextmanager
def atomic_file(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it becomes `target` only if the block succeeds.

    The file is flushed to disk before it is renamed, so that after a crash there is the old file or
    the new one. An exception removes it. A kill leaves it behind under its own name, and the next
    run for the same target takes it over. Two runs for one target are refused.

    Raises
    ------
    OutputError
        If `target` exists and `overwrite` is False, its folder does not, or another run writes to it.
    """
    target = followed(target)
    check_target(target, overwrite)
    partial = target.with_name(f".{target.name}.partial")
    try:
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        if not _lock(handle):
            raise OutputError(f"another run is writing {target}; wait for it, or choose another name")
        try:
            with _named(f"cannot write to {target.parent}"):
                os.truncate(handle, 0)
            yield partial
            check_target(target, overwrite)
            with _named(f"writing {target} failed; nothing was left there"):
                os.fsync(handle)
                os.replace(partial, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise
        with _named(f"{target} is whole and in place, but the disk does not confirm its name; check the disk"):
            _sync_folder(target.parent)
    finally:
        os.close(handle)


def followed(target: str | os.PathLike[str]) -> Path:
    """Return the file that a name stands for: of a symbolic link, what it points at, whether that is there or not.

    Raises
    ------
    OutputError
        If links lead in a circle.
    """
    path = Path(os.path.abspath(target))
    if not path.is_symlink():
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{path} is a symbolic link that leads in a circle; remove it") from error


def write_atomically(data: bytes, target: Path) -> None:
    """Write a small file whole or not at all; not flushed to disk, for what can be made again."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
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
        reason = "the name is too long" if error.errno == errno.ENAMETOOLONG else error.strerror
        raise OutputError(f"cannot write {target}: {reason}; choose a shorter one, or another folder") from error
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
