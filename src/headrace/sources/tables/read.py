"""Tables of text: counts with one name per row and per column, and annotations."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import pandas as pd

from ...errors import CountsError, InputError

UNREADABLE = (OSError, EOFError, ValueError, zlib.error, csv.Error, pd.errors.ParserError)
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
FEATURE_COUNTS = ["Chr", "Start", "End", "Strand", "Length"]
"""What the program featureCounts writes between the ids and the counts."""


def read_counts(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a table of numbers whose first row and first column are names.

    A header that is one name short, as R writes it, is understood, and so are leading lines that begin with "#" and the
    gene columns of featureCounts.

    Returns
    -------
    The numbers, and the gene columns of featureCounts (usually none), both with rows and names as in the file.

    Raises
    ------
    InputError
        If it is no such table. `CountsError` names row and column of what is no number.
    """
    header, skip, separator = _header(path)
    if not header:
        raise InputError(f"{path} has one column only; is it separated by something else than {separator!r}?")
    if len(set(header)) < len(header):
        name, times = Counter(header).most_common(1)[0]
        raise InputError(f"{path}: column {name!r} comes {times} times; names must be unique")
    extra = FEATURE_COUNTS if header[:5] == FEATURE_COUNTS else []
    names = ["", *header]
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            header=0,
            names=list(range(len(names))),
            skiprows=skip,
            index_col=0,
            dtype=dict.fromkeys(range(1 + len(extra)), str),
            keep_default_na=False,
            encoding="utf-8-sig",
            float_precision="round_trip",
            low_memory=False,
            compression="gzip" if _packed(path) else None,
        )
    except UNREADABLE as error:
        if isinstance(error, pd.errors.ParserError):
            _find_fault(path, header, len(extra), skip, separator)
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    frame.columns = pd.Index(header)
    frame.index = frame.index.astype(str)
    frame.index.name = None
    numbers, about = frame[header[len(extra) :]], frame[extra]
    if not all(dtype.kind in "iuf" for dtype in numbers.dtypes) or numbers.isna().to_numpy().any():
        _find_fault(path, header, len(extra), skip, separator)
    if not numbers.size:
        raise InputError(f"{path} holds no counts: {len(numbers)} rows and {numbers.shape[1]} columns")
    return numbers, about


def read_annotation(path: Path) -> pd.DataFrame:
    """Read a table whose first column holds ids."""
    header, skip, separator = _header(path)
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            header=0,
            names=list(range(1 + len(header))),
            skiprows=skip,
            converters={0: str},  # an id is text, "NA" too
            encoding="utf-8-sig",
            float_precision="round_trip",
            compression="gzip" if _packed(path) else None,
        )
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    return frame.set_index(0).rename_axis(None).set_axis(header, axis=1)


def stem(path: Path) -> str:
    """Return the name that the files of one experiment share.

    Examples
    --------
    >>> stem(Path("airway.counts.csv.gz")), stem(Path("out.tsv"))
    ('airway', 'out')
    """
    return re.sub(r"(\.counts)?\.(csv|tsv|tab|txt)(\.gz)?$", "", path.name)


def beside(path: Path, what: str) -> Path | None:
    """Find the annotation of a table in its folder: "airway.samples.csv" for "airway.counts.csv.gz"."""
    for ending in (".csv", ".csv.gz", ".tsv", ".tsv.gz"):
        found = path.with_name(f"{stem(path)}.{what}{ending}")
        if found.is_file() and found != path:
            return found
    return None


def _packed(path: Path) -> bool:
    """Whether a file is gzipped, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    if _packed(path):
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
            yield text
    else:
        with path.open(encoding="utf-8-sig", newline="") as plain:
            yield plain


def _header(path: Path) -> tuple[list[str], int, str]:
    """Return the names of the columns, how many lines to skip, and the separator."""
    with _text(path) as text:
        try:
            position = 0
            for line in text:
                if not line.startswith("#"):
                    break
                position += 1
            else:
                raise InputError(f"{path} is empty")
            suffix = Path(path.name.removesuffix(".gz")).suffix
            separator = SEPARATORS.get(suffix) or max("\t,;", key=line.count)
            rows = csv.reader(_chain(line, text), delimiter=separator)
            header, first = next(rows), next(rows, None)
        except UNREADABLE as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} cannot be read as text: {error}") from error
    if first is None:
        raise InputError(f"{path} has a header and nothing else")
    if len(first) == len(header) + 1:
        return header, position, separator
    return header[1:], position, separator


def _chain(line: str, text: IO[str]) -> Iterator[str]:
    yield line
    yield from text


def _find_fault(path: Path, header: list[str], n_extra: int, skip: int, separator: str) -> NoReturn:
    """Read the slow way, and name the first row and column that hold no number."""
    with _text(path) as text:
        for _ in range(skip):
            next(text)
        rows = csv.reader(text, delimiter=separator)
        next(rows)
        for fields in rows:
            where = f"{path}, line {skip + rows.line_num}, row {fields[0] if fields else ''!r}"
            if len(fields) != len(header) + 1:
                raise InputError(f"{where}: {len(fields)} fields instead of {len(header) + 1}")
            for name, field in zip(header[n_extra:], fields[1 + n_extra :], strict=True):
                if field.strip().lower() in ("", "na", "nan", "n/a", "null", "none"):
                    raise CountsError(f"{where}, column {name!r}: the count is missing ({field!r})")
                try:
                    float(field)
                except ValueError:
                    raise CountsError(
                        f"{where}, column {name!r}: {field!r} is no number; if the column describes genes or samples, "
                        "put it into a file of its own (genes=..., samples=...)"
                    ) from None
    raise InputError(f"{path} cannot be read as a table of numbers")
