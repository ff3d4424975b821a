"""What helps where the system refuses to write: room is not all that may be missing."""

from __future__ import annotations

import errno
import re
import sys

if sys.platform != "win32":
    import resource


def remedy(error: BaseException, otherwise: str) -> str:
    """Say what to do after an error of the system.

    Parameters
    ----------
    otherwise
        What helps where a disk is full, and in all other cases.

    Examples
    --------
    >>> remedy(OSError(errno.ENOSPC, "No space left on device"), "free some space")
    'free some space'
    >>> remedy(OSError(errno.ENFILE, "Too many open files in system"), "free some space")
    'end other programs: the whole system has too many files open'
    """
    number = getattr(error, "errno", None)
    if files_remedy(error):
        return files_remedy(error)
    if sys.platform != "win32":
        if number == errno.EFBIG:
            largest = file_size_limit()
            if largest is not None:
                return f"'ulimit -f' lets no file become larger than {largest / 1e6:,.1f} MB; raise it"
            return "the file system holds no file that large (FAT: 4 GB); choose another one"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return re.sub("^free some space( there)?,? or ", "", otherwise)
    return otherwise


def files_remedy(error: BaseException) -> str:
    """Say what to do if too many files were open, whoever says it: libraries have only words for it. Else nothing.

    Examples
    --------
    >>> files_remedy(RuntimeError("Cannot open file '/data/obs'; Too many open files in system"))
    'end other programs: the whole system has too many files open'
    >>> files_remedy(RuntimeError("Cannot open file '/data/obs'"))
    ''
    """
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        number, text = getattr(error, "errno", None), str(error)
        if number == errno.ENFILE or re.search(r"too many open files in system", text, re.I):
            return "end other programs: the whole system has too many files open"
        if sys.platform != "win32" and (number == errno.EMFILE or re.search(r"too many open files", text, re.I)):
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"'ulimit -n' lets this process have {most} files open at once; raise it, to 256 or more"
        error = error.__cause__ or error.__context__ or error
    return ""


def file_size_limit() -> int | None:
    """Return the bytes that 'ulimit -f' lets a file have, or None where it lets it have any number."""
    if sys.platform == "win32":
        return None
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
