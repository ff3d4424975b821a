"""Tables of text: counts with one name per row and per column, and annotations."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from ...errors import CountsError, InputError
from .counters import is_summary
from .notices import UnnamedSamplesWarning
from .numerals import Decimal, decimal_of, is_missing, is_number, to_numbers
from .text import Text, read_text

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}
FEATURE_COUNTS = ["Chr", "Start", "End", "Strand", "Length"]
"""What the program featureCounts writes between the ids and the counts."""

ID_WORDS = re.compile(
    r"|(gene|transcript|feature|target|sample|cell|tracking|ensembl|ensemblgene|entrez|locus|probe|exon|tx)?"
    r"(id|ids|name|names|symbol|symbols)?|genes|features|samples|cells|barcode|barcodes|locustag|index|unnamed0|txname"
)
"""The head of a column of ids, without what is no letter or digit."""

DESCRIBES = re.compile(
    r"(gene|transcript|hgnc|entrez|ensembl|ncbi|external|mgi)?(gene)?(id|ids|name|symbol|type|biotype|length|description)|"
    r"biotype|length|effectivelength|efflength|entrezgene|entrezgeneid|description|gene(chr|start|end|strand)|gccontent"
)
"""Columns that describe genes, even in numbers."""

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


@dataclass
class Sheet:
    """A table as it stands in a file: numbers, and what describes its rows."""

    numbers: pd.DataFrame
    about: pd.DataFrame
    header: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    first: str = ""
    """What the column of ids is called."""


def read_counts(
    source: Path | Text, separator: str | None = None, decimal: Decimal | None = None, header: bool | None = None
) -> Sheet:
    """Read a table of numbers whose first row and first column are names.

    A header that is one name short, as R writes it, is understood, and so is none at all; leading lines that begin with
    "#"; and columns of text, which describe the rows.

    Raises
    ------
    InputError
        If it is no such table, or can be read in two ways. `CountsError` names row and column of what is no number.
    """
    text = source if isinstance(source, Text) else read_text(source)
    layout = find_layout(text, separator, header)
    frame = _parsed(text, layout)
    sheet = Sheet(
        frame, frame.iloc[:, :0], layout.header, [f"separated by {SEPARATORS[layout.separator]}"], layout.first
    )
    columns: dict[str, Any] = {}
    about: dict[str, Any] = {}
    odd = {at for at, dtype in enumerate(frame.dtypes) if dtype.kind not in "iuf" or frame.iloc[:, at].isna().any()}
    texts = {at: frame.iloc[:, at].map(str).to_numpy(object) for at in odd}
    marks = [f for values in texts.values() for f in values if "," in f and is_number(f)]
    mark: Decimal = "."
    if marks or decimal is not None:
        again = _parsed(text, layout, as_text=True)
        texts = {at: again.iloc[:, at].to_numpy(object) for at in range(again.shape[1])}
        odd = set(texts)
        fields = (f for values in texts.values() for f in values if isinstance(f, str) and is_number(f))
        mark = decimal_of(fields, text.name, decimal)
        if mark == ",":
            sheet.notes.append("decimal commas")
    elif layout.separator == ";" and any(dtype.kind == "f" for dtype in frame.dtypes):
        _refuse_thousands(text, layout)
    for at, name in enumerate(frame.columns):
        values = frame.iloc[:, at]
        if at in odd:
            fields_ = np.array(["" if not isinstance(f, str) else f for f in texts[at]], dtype=object)
            there = [f for f in fields_ if not is_missing(f)]
            worded = sum(not is_number(f) for f in there)
            if not there and name == "" and at == frame.shape[1] - 1:
                continue  # a separator at the end of each line
            by_name = layout.header is not None and _describes(name, layout.header)
            if worded * 2 > len(there) or (by_name and (worded or not there)):
                about[name] = fields_
                continue
            numbers = to_numbers(fields_, mark)
            blank = np.isnan(numbers)
            if blank.any() and not blank.all():  # STAR's summary rows have no TPM in TCGA's files
                numbers[
                    [at for at in np.flatnonzero(blank) if is_missing(fields_[at]) and is_summary([frame.index[at]])[0]]
                ] = 0
            if np.isnan(numbers).any():
                _find_fault(text, layout, mark, frame.index[int(np.isnan(numbers).argmax())], name, numbers, fields_)
            values = pd.Series(numbers, index=frame.index)
        if layout.header is not None and (_describes(name, layout.header)):
            about[name] = values.to_numpy()
        else:
            columns[name] = values.to_numpy()
    sheet.about = pd.DataFrame(about, index=frame.index)
    sheet.numbers = pd.DataFrame(columns, index=frame.index)
    if about:
        sheet.notes.append(f"described by {', '.join(map(str, list(about)[:6]))}{', ...' if len(about) > 6 else ''}")
    if not sheet.numbers.size:
        raise InputError(f"{text.name} holds no counts: {len(frame)} rows and {len(columns)} columns of numbers")
    return sheet


def _describes(name: str, header: list[str]) -> bool:
    """Return whether a column of numbers describes genes, by its name."""
    bare = _bare(name)
    located = bool({_bare(one) for one in header} & {"chr", "chrom", "chromosome", "seqnames", "seqname"})
    return bool(DESCRIBES.fullmatch(bare)) or (
        located and bare in ("chr", "chrom", "chromosome", "seqnames", "start", "end", "strand", "width")
    )


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _parsed(text: Text, layout: Layout, as_text: bool = False) -> pd.DataFrame:
    buffer = io.BytesIO(text.data)
    buffer.seek(layout.offset)
    dtype: Any = str if as_text else {0: str}
    try:
        frame = pd.read_csv(
            buffer,
            sep=r"\s+" if layout.separator == " " else layout.separator,
            header=None,
            names=list(range(layout.width)),
            index_col=0,
            dtype=dtype,
            keep_default_na=False,
            encoding="utf-8",
            float_precision="round_trip",
            low_memory=False,
        )
    except pd.errors.ParserError:
        _find_ragged(text, layout)
    except (ValueError, csv.Error, OverflowError) as error:
        raise InputError(f"{text.name} cannot be read as a table: {error}") from error
    frame.index = pd.Index(frame.index.astype(str), dtype=object, name=None)
    if frame.isna().to_numpy().any():
        _find_ragged(text, layout, softly=True)
    names = layout.header if layout.header is not None else [str(at) for at in range(1, layout.width)]
    frame.columns = pd.Index(names, dtype=object)
    return frame


def _rows(text: Text, offset: int, separator: str) -> Iterator[list[str]]:
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
        if line.strip() and not line.startswith(b"#"):
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
        _find_ragged(text, Layout(rows[0][0], rows[0][1], best, width, first_line + 1))
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
        if len(first) == width - 1 and _bare(first[0]) and ID_WORDS.fullmatch(_bare(first[0])):
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
    data = bool(numeric) and all(is_number(first[at]) for at in numeric) and not ID_WORDS.fullmatch(_bare(first[0]))
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


def _refuse_thousands(text: Text, layout: Layout) -> None:
    fields = [f for row in _parsed(text, layout, as_text=True).to_numpy(object) for f in row if "." in str(f)]
    fields = [f for f in fields if is_number(f)]
    if fields and all(re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", f.strip()) for f in fields):
        raise InputError(
            f"{text.name}: {fields[0]!r} may be a number with three decimals or thousands; say decimal='.' or decimal=','"
        )


def _find_ragged(text: Text, layout: Layout, softly: bool = False) -> NoReturn:  # type: ignore[misc]
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


def _find_fault(text: Text, layout: Layout, mark: str, row: str, name: str, numbers: Any, fields: Any) -> NoReturn:
    """Name the place of what is no number."""
    del mark
    at = int(np.isnan(numbers).argmax())
    rows = csv.reader(io.StringIO(text.data[layout.offset :].decode(), newline=""), delimiter=layout.separator)
    for _, fields_ in zip(range(at + 1), (r for r in rows if r), strict=False):
        del fields_
    where = f"{text.name}, line {layout.line + rows.line_num}, row {row!r}, column {name!r}"
    if is_missing(fields[at]):
        raise CountsError(f"{where}: the count is missing ({fields[at]!r})")
    raise CountsError(
        f"{where}: {fields[at]!r} is no number; if the column describes genes or samples, put it into a file of its own "
        "(genes=..., samples=...)"
    )


def name_samples(sheet: Sheet, sample: str, where: str) -> None:
    """Name the columns of a table without a header: one by its file, several by file and number, with a warning."""
    n = sheet.numbers.shape[1]
    if n > 1:
        import warnings

        warnings.warn(
            f"{where} has no header: its {n} samples are called {sample}.1, {sample}.2, ...",
            UnnamedSamplesWarning,
            stacklevel=4,
        )
    sheet.numbers.columns = pd.Index([sample] if n == 1 else [f"{sample}.{at + 1}" for at in range(n)], dtype=object)


def read_annotation(path: Path, header: bool = True) -> pd.DataFrame:
    """Read a table whose first column holds ids."""
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        return frame.set_index(frame.columns[0]) if isinstance(frame.index, pd.RangeIndex) else frame
    text = read_text(path)
    usual = "\t" if re.search(r"\.(tsv|tab)\b", path.name) else ","
    if not any(mark.encode() in text.data.split(b"\n", 1)[0] for mark in ",\t;| "):
        text = Text(text.name, b"\n".join(line.rstrip(b"\r") + usual.encode() for line in text.data.splitlines()))
        ids = [row[0] for row in _rows(text, 0, usual) if row]
        return pd.DataFrame(index=pd.Index(ids[1:], dtype=object))
    layout = find_layout(text, header=header, preferred=usual)
    buffer = io.BytesIO(text.data)
    buffer.seek(layout.offset)
    try:
        frame = pd.read_csv(
            buffer,
            sep=r"\s+" if layout.separator == " " else layout.separator,
            header=None,
            names=list(range(layout.width)),
            converters={0: str},  # an id is text, "NA" too
            float_precision="round_trip",
        )
    except (ValueError, csv.Error, pd.errors.ParserError) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    assert layout.header is not None
    frame = frame.set_index(0).rename_axis(None).set_axis(layout.header, axis=1)
    frame.attrs["first"] = layout.first
    return frame


def stem(path: Path) -> str:
    """Return the name that the files of one experiment share.

    Examples
    --------
    >>> stem(Path("airway.counts.csv.gz")), stem(Path("out.tsv"))
    ('airway', 'out')
    """
    return re.sub(r"(\.counts)?\.(csv|tsv|tab|txt|parquet|gct)(\.(gz|bz2|xz|zip|zst))?$", "", path.name)


def beside(path: Path, what: str) -> Path | None:
    """Find the annotation of a table in its folder: "airway.samples.csv" for "airway.counts.csv.gz"."""
    ending = "".join(re.findall(r"\.(?:csv|tsv|parquet)(?:\.gz)?$", path.name))
    for ending in dict.fromkeys([ending or ".csv", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet"]):
        for name in dict.fromkeys([re.sub(r"\.(csv|tsv|parquet)(\.gz)?$", "", path.name), stem(path)]):
            found = path.with_name(f"{name}.{what}{ending}")
            if found.is_file() and found != path:
                return found
    return None
