"""Files that are compressed if their name says so."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def gzipped(raw: Any, path: Path) -> Iterator[Any]:
    """Give what to write to: a file, or gzip around it if `path` ends so; the same data, the same bytes.

    It is closed whatever happens: Python would close it after the file, and complain.
    """
    if path.suffix != ".gz":
        yield raw
        return
    with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        yield packed
