"""Whether a file can be written: tried before anything is read for it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError
from .atomic import check_target, followed
from .places import nearest
from .shortage import file_size_limit, remedy


def try_target(path: Path) -> None:
    """Try what writing a file will do in its folder; leave nothing behind.

    Raises
    ------
    OutputError
        If no file can be made there, its name is too long, or the file that is there cannot be replaced.
    """
    check_target(path, overwrite=True)
    target = followed(path)
    trial = target.with_name(f".{target.name}.attempt")  # as long as the name that it is written under
    try:
        _make(trial)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(
                f"the name {target.name!r} is too long: with what is added to it while it is written, it has "
                f"{len(os.fsencode(trial.name))} bytes; choose a shorter one"
            ) from error
        if error.errno == errno.EISDIR:
            raise OutputError(f"{trial} is a folder, where headrace tries whether it can write; remove it") from error
        what = remedy(error, "choose another folder")
        raise OutputError(f"cannot write to {target.parent}: {error.strerror}; {what}") from error
    _check_replaceable(target)


def no_locks(folder: Path) -> str | None:
    """Return what the user should know if a folder, or the nearest that is there, has no locks."""
    folder = nearest(folder)
    try:
        why = _try_lock(folder)
    except OSError:  # told where it is written
        return None
    if why is None:
        return None
    return (
        f"the file system of {folder} has no locks ({why}): two runs that write one file, or use one spool, at once do "
        "not notice one another"
    )


def _try_lock(folder: Path) -> str | None:
    """Return why a file in a folder cannot be locked, or None if it can. A run that is killed here leaves nothing."""
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (AttributeError, OSError):  # no such flag on this system, or no files without a name on this file system
        return _make(folder / f".headrace-{os.getpid()}-{os.urandom(4).hex()}.attempt")
    try:
        return _lock(handle)
    finally:
        os.close(handle)


def _make(trial: Path) -> str | None:
    """Make a file and remove it; return why it cannot be locked, or None if it can."""
    with suppress(FileNotFoundError):
        os.unlink(trial)  # left by a run that was killed just here
    handle = os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        return _lock(handle)
    finally:
        os.close(handle)
        with suppress(OSError):
            os.unlink(trial)


def _lock(handle: int) -> str | None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


def check_output_fits(folder: Path, certain: int, likely: int, beside: int) -> str | None:
    """Compare what a run will write in a folder with the space there.

    Parameters
    ----------
    folder
        Where it writes.
    certain, likely
        Bytes that it takes at least, and at most, as predicted; 0 where that is not known.
    beside
        Bytes of a spool on the same disk, which says itself if it has no room.

    Returns
    -------
    What the user should know if the space may not do.

    Raises
    ------
    OutputError
        If the space cannot do.
    """
    free = shutil.disk_usage(nearest(folder)).free
    check_file_size(certain)
    if free < beside or not likely:
        return None
    certain, likely = certain and certain + beside, likely + beside
    if free < certain:
        raise OutputError(
            f"what is written in {folder} takes about {certain / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free "
            "there; free some space, or choose another folder"
        )
    if free < likely:
        room = f"{free / 1e6:,.0f} MB are free there"
        return f"what is written in {folder} may take up to {likely / 1e6:,.0f} MB, and {room}"
    return None


def check_file_size(certain: int) -> None:
    """Raise `OutputError` if 'ulimit -f' lets no file have so many bytes."""
    most = file_size_limit()
    if most is not None and most < certain:
        raise OutputError(
            f"the output takes about {certain / 1e6:,.1f} MB, and 'ulimit -f' lets no file become larger than "
            f"{most / 1e6:,.1f} MB; raise it"
        )


def same_disk(one: Path, other: Path) -> bool:
    """Return whether two folders, or the nearest that are there, are on one file system."""
    return os.stat(nearest(one)).st_dev == os.stat(nearest(other)).st_dev


def _check_replaceable(target: Path) -> None:
    """Raise `OutputError` if the file that is there cannot be replaced by another, though its folder can be written."""
    try:
        found, folder = target.lstat(), target.parent.stat()
    except OSError:
        return
    me = os.geteuid()
    if folder.st_mode & stat.S_ISVTX and me not in (0, found.st_uid, folder.st_uid):
        raise OutputError(
            f"{target} belongs to another user, and only its owner can replace it: its folder is sticky, as /tmp is; "
            "choose another name"
        )
    if found.st_dev != folder.st_dev or str(target) in _mounted():
        raise OutputError(
            f"{target} is mounted there as a single file, as by 'docker run -v file:file', and cannot be replaced; "
            "mount its folder, or choose another name"
        )


def _mounted() -> set[str]:
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return set()
    return {line.split()[4] for line in lines}
