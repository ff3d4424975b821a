"""Standard streams that may be closed, or end while the run goes on: that is no error of the run."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from ..errors import OutputError

GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
"""Nobody reads any more: a pipe whose reader has read enough, a terminal that is closed."""


class Outlet(io.FileIO):
    """Standard output or standard error; what nobody reads is dropped."""

    def write(self, data: Any) -> int:
        """Write, or drop, or raise `OutputError` if results are lost, as on a full disk."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            place = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)  # so that Python does not try again when it ends
            os.dup2(nowhere, place)
            os.close(nowhere)
            if place == 1 and error.errno not in GONE:
                raise OutputError(f"cannot write to standard output: {error.strerror}") from error
            return len(memoryview(data).cast("B"))


def open_streams() -> None:
    """Open what the process was started without: else the next file takes its number, and gets what is meant for it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _outlet(1, sys.stdout), _outlet(2, sys.stderr)


def _outlet(number: int, stream: Any) -> io.TextIOWrapper:
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Outlet(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=getattr(stream, "errors", None) or "backslashreplace",
        line_buffering=number == 2 or os.isatty(number),
        write_through=number == 2,
    )
