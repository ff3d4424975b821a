"""How a table of text is laid out: separator, header, and where its rows begin."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from ...errors import InputError
from .numerals import is_missing, is_number
from .text import Text

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}

ID_WORDS = re.compile(
    r"(hugo|gene|transcript|feature|target|sample|cell|tracking|ensembl|entrez|mirna|locus|probe|set|exon|tx|row|unique)*"
    r"(id|ids|name|names|symbol|symbols|short|tag|barcode|barcodes)*|genes|features|samples|cells|index|unnamed0|otu|x"
)
"""The head of a column of ids, without what is no letter or digit."""

EXCEL = re.compile(rb'"?sep=([,;\t| ])"?', re.IGNORECASE)

SNIFFED = 60


@dataclass(frozen=True)
class Layout:
    """How a table of text is laid out: names of the columns after the ids (None: no header), and where rows begin."""

    header: list[str] | None
    offset: int
    separator: str
    width: int
    line: int
    first: str = ""


def bare(name: str) -> str:
    """Return a name in small letters, without what is no letter or digit."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def is_corner(field: str) -> bool:
    """Return whether a field heads the column of ids: it is blank, or such as "gene_id". Then names may be numbers.

    Examples
    --------
    >>> [is_corner(field) for field in ("", "Gene ID", "Hugo_Symbol", "7157", "TP53", "\u7d30\u80de")]
    [True, True, True, False, False, False]
    """
    return not field.strip() or (field.isascii() and bool(bare(field) and ID_WORDS.fullmatch(bare(field))))


def rows_of(text: Text, offset: int, separator: str) -> Iterator[list[str]]:
    """Return the rows of a table from an offset on."""
    lines = io.StringIO(text.data[offset:].decode("utf-8"), newline="") if offset else _lines(text.data)
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ")


def _lines(data: bytes) -> Iterator[str]:
    for line in io.BytesIO(data):
        yield line.decode("utf-8")


def find_layout(
    text: Text, separator: str | None = None, header: bool | None = None, preferred: str | None = None
) -> Layout:
    """Find the separator, the header and where the rows begin.

    Raises
    ------
    InputError
        If there is no separator, or more than one that fits.
    """
    skip, comments = 0, []
    for line in io.BytesIO(text.data):
        excel = EXCEL.fullmatch(line.strip())  # says the separator to Excel, and is no row
        if excel is not None and not skip:
            separator = separator or excel[1].decode()
        elif line.strip() and not line.startswith(b"#"):
            break
        skip += len(line)
        comments.append(line)
    else:
        raise InputError(f"{text.name} is empty")
    first_line = len(comments)
    if separator is not None and separator not in SEPARATORS:
        raise InputError(f"separator={separator!r}: one of {', '.join(map(repr, SEPARATORS))}")
    fits = {}
    for mark in SEPARATORS if separator is None else [separator]:
        layout = _fit(text, skip, first_line, mark, comments)
        if layout is not None:
            fits[mark] = layout
    strong = [mark for mark, (_, weight) in fits.items() if weight == 2] or list(fits)
    if preferred in strong:
        strong = [str(preferred)]
    if len(strong) > 1 and " " in strong:
        strong.remove(" ")
    if len(strong) > 1:
        numeric = [m for m in strong if any(is_number(f) for f in fits[m][0][-1][1:])]
        strong = numeric or strong
    if len(strong) > 1:
        words = " and ".join(SEPARATORS[mark] for mark in strong)
        raise InputError(f"{text.name} can be read as separated by {words}; say separator={strong[0]!r} or another")
    if not strong:
        marks = [m for m in SEPARATORS if m.encode() in text.data[skip : skip + 4096]]
        if not marks:
            raise InputError(f"{text.name} has one column only; is it separated by something else than a comma or tab?")
        best = separator or max(marks, key=lambda m: text.data[skip : skip + 4096].count(m.encode()))
        rows = _head(text, skip, best)
        if len(rows) == 1:
            raise InputError(f"{text.name} has a header and nothing else")
        width = len(rows[1][0])
        find_ragged(text, Layout(rows[0][0], rows[0][1], best, width, first_line + 1))
    mark = strong[0]
    rows_, _ = fits[mark]
    return _headed(text, mark, rows_, skip, first_line, header, comments)


def _head(text: Text, skip: int, separator: str) -> list[tuple[list[str], int]]:
    """Return the first rows, each with the offset at which it ends."""
    ends: list[int] = []

    def lines() -> Iterator[str]:
        buffer = io.BytesIO(text.data)
        buffer.seek(skip)
        for line in buffer:
            ends.append(buffer.tell())
            yield line.decode("utf-8")

    out: list[tuple[list[str], int]] = []
    try:
        for row in csv.reader(lines(), delimiter=separator, skipinitialspace=separator == " "):
            if row:
                while separator == " " and row and row[-1].strip() == "":
                    row.pop()
                out.append((row, ends[-1]))
            if len(out) == SNIFFED:
                break
    except csv.Error as error:
        raise InputError(f"{text.name} cannot be read as a table: {error}") from error
    return out


def _fit(text: Text, skip: int, line: int, separator: str, comments: list[bytes]) -> tuple[list[list[str]], int] | None:
    """Return the first rows if a separator makes a table of them, and 2 if the header shows it too, else 1."""
    del line, comments
    try:
        rows = [[f.strip() if separator == " " else f for f in row] for row, _ in _head(text, skip, separator)]
    except InputError:
        return None
    if not rows:
        return None
    width = len(rows[-1])
    if separator == " " and any("\t" in field for row in rows for field in row):
        return None
    if width < 2 or any(len(row) != width for row in rows[1:]):
        return None
    if len(rows[0]) == width:
        return rows, 2
    if len(rows[0]) != width - 1:
        return None
    other = any(mark in rows[0][0] for mark in SEPARATORS if mark not in (separator, " "))
    return (rows, 1) if len(rows[0]) == 1 and other else (rows, 2)


def _headed(
    text: Text, separator: str, rows: list[list[str]], skip: int, line: int, header: bool | None, comments: list[bytes]
) -> Layout:
    width = len(rows[-1])
    first, rest = rows[0], rows[1:]
    after = _head(text, skip, separator)[0][1]
    if header is True or len(first) == width - 1:
        if header is False:
            raise InputError(f"{text.name}: its first line has {len(first)} fields, the others {width}: it is a header")
        if len(first) == width - 1 and bare(first[0]) and ID_WORDS.fullmatch(bare(first[0])):
            if rest and all(row[-1] == "" for row in rest):
                return _named(text, [*first[1:], ""], after, separator, width, line + 1)
            raise InputError(
                f"{text.name}, line {line + 1}: the header has {len(first)} names for {width} columns, and begins with "
                f"{first[0]!r}; name all columns"
            )
        names = first if len(first) == width - 1 else first[1:]
        return _named(text, names, after, separator, width, line + 1, "" if len(first) < width else first[0])
    numeric = [at for at in range(1, width) if all(is_number(r[at]) or is_missing(r[at]) for r in rest)]
    if not rest:
        numeric = [at for at in range(1, width) if is_number(first[at])]
    told_apart = [is_number(first[at]) or (bool(first[at].strip()) and is_missing(first[at])) for at in numeric]
    data = bool(numeric) and all(told_apart) and not is_corner(first[0])
    if (
        header is None
        and data
        and rest
        and len(numeric) > 1
        and [first[at] for at in numeric] == [str(at) for at in range(1, len(numeric) + 1)]
    ):
        raise InputError(
            f"{text.name}, line {line + 1}: {separator.join(first[:4])!r} may be a header or counts; say header=True "
            "or header=False"
        )
    if header is False or data:
        if comments:
            told = next(csv.reader([comments[-1].decode().lstrip("#").strip()], delimiter=separator), [])
            if len(told) == width and comments[-1].startswith(b"#"):
                return _named(text, told[1:], skip, separator, width, line, told[0])
        return Layout(None, skip, separator, width, line)
    if not rest:
        raise InputError(f"{text.name} has a header and nothing else")
    return _named(text, first[1:], after, separator, width, line + 1, first[0])


def _named(text: Text, names: list[str], offset: int, separator: str, width: int, line: int, first: str = "") -> Layout:
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise InputError(f"{text.name}: column {name!r} comes {times} times; names must be unique")
    return Layout(names, offset, separator, width, line, first)


def find_ragged(text: Text, layout: Layout, softly: bool = False) -> NoReturn:  # type: ignore[misc]
    """Name the first row that has too many fields or too few."""
    rows = csv.reader(io.StringIO(text.data[layout.offset :].decode(), newline=""), delimiter=layout.separator)
    try:
        for row in rows:
            if row and len(row) != layout.width and layout.separator != " ":
                where = f"{text.name}, line {layout.line + rows.line_num}, row {row[0]!r}"
                raise InputError(f"{where}: {len(row)} fields instead of {layout.width}")
    except csv.Error as error:
        raise InputError(f"{text.name} cannot be read as a table: {error}") from error
    if not softly:
        raise InputError(f"{text.name} cannot be read as a table of numbers")
