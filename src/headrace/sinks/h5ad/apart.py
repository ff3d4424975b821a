"""A writer whose calls are all done in one thread of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from ...afterwards import Reading
from ...chunk import Chunk, StreamSpec
from ...protocols import Writer


@contextmanager
def apart(file: AbstractContextManager[Writer], thread: ThreadPoolExecutor) -> Iterator[Writer]:
    """Do everything with a file in one thread, which is not the main one.

    HDF5 calls back into Python for every write. In the main thread, Ctrl-C may be raised in the middle of that, which
    HDF5 does not survive; here it is raised where the main thread waits.
    """
    try:
        writer = Apart(thread.submit(file.__enter__).result(), thread)
        yield writer
        writer.wait()
    except BaseException as error:
        thread.submit(file.__exit__, type(error), error, error.__traceback__).result()
        raise
    thread.submit(file.__exit__, None, None, None).result()


@dataclass
class Apart(Writer):
    """A writer whose calls are done in another thread, one chunk behind."""

    writer: Writer
    thread: ThreadPoolExecutor
    last: Future[None] | None = None

    def write(self, chunk: Chunk) -> None:
        """Append cells, when those before are written."""
        self.wait()
        self.last = self.thread.submit(self.writer.write, chunk)

    def again(self) -> Sequence[Reading]:
        """Return what reads the cells back; that thread is not needed for it."""
        self.wait()
        return self.thread.submit(self.writer.again).result()

    def add(self, obsm: Mapping[str, Any]) -> None:
        """Append to arrays of cells, when those before are written."""
        self.wait()
        self.last = self.thread.submit(self.writer.add, obsm)

    def finish(self, spec: StreamSpec) -> None:
        """Write what is known only now."""
        self.wait()
        self.thread.submit(self.writer.finish, spec).result()

    def wait(self) -> None:
        """Wait for the last chunk to be written."""
        if self.last is not None:
            self.last.result()
