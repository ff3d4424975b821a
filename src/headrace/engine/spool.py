"""The spool: what was read from a source, kept on the local disk for later passes and later runs.

One file for each chunk, moved into place when whole. A file has the cells' annotations (`packed.py`),
and X as row lengths, differences of column numbers, and counts, each in as few bytes as they
need, compressed (LZ4 after a transposition of bits) and with a checksum: about 1.3 bytes for each
non-zero. Values that are large or not whole are kept exactly, in more bytes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..chunk import Chunk
from ..errors import OutputError, SourceError
from ..support.atomic import locked, write_within
from ..support.places import nearest
from ..support.private import Folder, own_folder
from ..support.shortage import remedy
from .encoded import MAGIC, decode, described, encode, sections

NAME = r"[0-9a-f]{16,64}"
"""A spool's folder: a plan's fingerprint."""

BYTES_PER_NNZ = 2.0
"""What `explain` reckons with; full-length assays, with large counts, come to about 2."""


@dataclass(frozen=True)
class Spool:
    """The parts of one plan's source.

    Parameters
    ----------
    folder
        Where the parts are. Its name is the plan's fingerprint: another plan has another folder.
    obs
        No rows: the names and dtypes of the columns of `obs`, categories included.
    shared
        Whether several processes fill it together.
    """

    folder: Path
    obs: pd.DataFrame
    shared: bool = False
    held: list[Folder] = field(default_factory=list, compare=False, repr=False)

    @contextmanager
    def opened(self, about: dict[str, Any], keep: bool) -> Iterator[Spool]:
        """Make the folder and hold it; afterwards remove it, unless an exception or `keep` speaks for it.

        Raises
        ------
        OutputError
            If it cannot be made, or another run uses it.
        """
        with (
            own_folder(self.folder, "the spool", "choose another folder with spool=") as held,
            locked(self.folder, "the spool"),
        ):
            if held.doubtful:
                held.empty()  # whatever it says it is, somebody else may have put it there
            self.held[:] = [held]
            try:
                if not (self.folder / "about.json").exists():
                    self._place("about.json", json.dumps(about, default=str).encode())
                yield self
            except BaseException:
                with suppress(OSError):  # nothing came into it: then nothing is left
                    self.folder.rmdir()
                    self.folder.parent.rmdir()
                raise
            finally:
                self.held.clear()
            if not keep:
                held.empty()
                with suppress(OSError):  # not empty: other plans have theirs there
                    self.folder.rmdir()
                    self.folder.parent.rmdir()

    @contextmanager
    def joined(self) -> Iterator[Spool]:
        """Use the folder that another process has opened, or make it; it stays."""
        with own_folder(self.folder, "the spool", "choose another folder with spool=") as held:
            self.held[:] = [held]
            try:
                yield self
            finally:
                self.held.clear()

    @property
    def made(self) -> bool:
        """Whether the folder is there, of an earlier run or of this one."""
        return os.path.isdir(self.folder)

    def path(self, start: int, stop: int) -> Path:
        """Return the file of the cells between two positions."""
        return self.folder / f"cells-{start:012d}-{stop:012d}.part"

    def store(self, start: int, stop: int, chunk: Chunk) -> None:
        """Keep a chunk."""
        self._place(self.path(start, stop).name, encode(chunk, self._of(start, stop)))

    def load(self, start: int, stop: int) -> Chunk:
        """Return a chunk, bit for bit.

        Raises
        ------
        SourceError
            If the part is gone or its checksum is wrong; it is removed then, and the next run reads it anew.
        """
        path = self.path(start, stop)
        try:
            return decode(self.held[0].read(path.name), self.obs, self._of(start, stop))
        except FileNotFoundError:
            raise SourceError(f"the spool's part {path} has vanished; run again to read it anew") from None
        except OSError as error:
            raise SourceError(
                f"the spool's part {path} cannot be read: {error.strerror}; "
                + remedy(error, "run again to read it anew")
            ) from error
        except ValueError as error:
            self.held[0].remove(path.name)
            raise SourceError(f"the spool's part {path} is damaged ({error}); run again to read it anew") from None

    def whole(self, start: int, stop: int) -> bool:
        """Check a part of an earlier run: its checksums, and what it says it is of; a wrong one is removed."""
        name = self.path(start, stop).name
        try:
            described(sections(self.held[0].read(name)), self._of(start, stop))
        except (IsADirectoryError, ValueError):
            self.held[0].remove(name)
            return False
        except OSError:
            return False  # whatever is wrong with it, a new one takes its place
        return True

    def _of(self, start: int, stop: int) -> list[str | int]:
        """Say what a part is of: the plan by its fingerprint, and the cells."""
        return [self.folder.name, start, stop]

    def _place(self, name: str, data: bytes) -> None:
        try:
            write_within(self.held[0].handle, name, data, self.shared)
        except OSError as error:
            raise OutputError(
                f"cannot write to the spool {self.folder}: {error.strerror}; "
                + remedy(error, "free some space or choose another folder with spool=")
            ) from error


def need(n_obs: int, nnz: int) -> int:
    """Estimate the bytes a spool takes."""
    return int(nnz * BYTES_PER_NNZ + n_obs * 60)


def check_spool_fits(folder: Path, bytes_needed: int) -> None:
    """Raise `OutputError` if the disk has no room."""
    free = shutil.disk_usage(nearest(folder)).free
    if free < bytes_needed:
        raise OutputError(
            f"the spool needs about {bytes_needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free; "
            "choose another folder with spool="
        )


def found(folder: Path) -> list[dict[str, Any]]:
    """List the spools in a folder: name, bytes, parts, what they are about."""
    out = []
    for each in sorted(folder.glob("*/")):
        if not re.fullmatch(NAME, each.name):
            continue  # not one of ours
        about: Any = {}
        with suppress(OSError, ValueError, RecursionError):  # one that was killed at its very beginning or end has none
            about = json.loads((each / "about.json").read_text())
        if not isinstance(about, dict) or not isinstance(about.get("source", {}), dict):
            about = {}  # whoever wrote that
        n_parts = len(list(each.glob("*.part")))
        out.append({"folder": str(each), "bytes": size_of(each), "parts": n_parts, "about": about})
    return out


def size_of(folder: Path) -> int:
    """Return the bytes of all parts of a spool, and of what has come from far away and is no part yet."""
    size = 0
    for part in (*folder.glob("*.part"), *folder.glob("*/*.bytes"), *folder.glob("pass-*")):
        with suppress(OSError):  # a run ends just now
            size += part.stat().st_size
    return size


def clean(folder: Path, on_each: Callable[[Path], None] = lambda path: None) -> int:
    """Remove the spools in a folder that no run uses; return how many."""
    removed = 0
    for entry in found(folder):
        path = Path(entry["folder"])
        try:
            with locked(path, "the spool"):
                shutil.rmtree(path)
        except (OutputError, OSError):
            continue
        on_each(path)
        removed += 1
    return removed


__all__ = ["MAGIC", "Spool", "check_spool_fits", "clean", "decode", "encode", "found", "need", "size_of"]
