"""Tables of text: counts with one name per row and per column, and annotations."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from ...errors import CountsError, InputError
from ..summary import is_summary
from .layout import SEPARATORS, Layout, bare, find_layout, find_ragged
from .notices import UnnamedSamplesWarning
from .numerals import Decimal, decimal_of, is_missing, is_number, to_numbers
from .text import Text, read_text

FEATURE_COUNTS = ["Chr", "Start", "End", "Strand", "Length"]
"""What the program featureCounts writes between the ids and the counts."""

DESCRIBES = re.compile(
    r"(gene|transcript|hgnc|entrez|ensembl|ncbi|external|mgi)?(gene)?(id|ids|name|symbol|type|biotype|length|description)|"
    r"biotype|(gene|transcript|cds|exonic|mean|median|effective|eff|merged)?length|entrezgene|entrezgeneid|description|"
    r"gene(chr|start|end|strand)|gc|gccontent|gcpercent|percent(age)?(gene)?gc(content)?|n?exons|(n|num)?exoncount"
)
"""Columns that describe genes, even in numbers."""

RESULTS = re.compile(
    r"basemean|log2?fc|log2?foldchange|lfcse|stat|pval(ue)?|padj|(adj|adjusted)pval(ue)?|fdr|qval(ue)?|logcpm"
)
"""Columns that a test wrote beside the counts: two of them are needed to tell."""


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
    plain = bare(name)
    tested = sum(bool(RESULTS.fullmatch(bare(one))) for one in header) > 1
    located = bool({bare(one) for one in header} & {"chr", "chrom", "chromosome", "seqnames", "seqname"})
    return (
        bool(DESCRIBES.fullmatch(plain))
        or (tested and bool(RESULTS.fullmatch(plain)))
        or (located and plain in ("chr", "chrom", "chromosome", "seqnames", "start", "end", "strand", "width"))
    )


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
        find_ragged(text, layout)
    except (ValueError, csv.Error, OverflowError) as error:
        raise InputError(f"{text.name} cannot be read as a table: {error}") from error
    frame.index = pd.Index(frame.index.astype(str), dtype=object, name=None)
    if frame.isna().to_numpy().any():
        find_ragged(text, layout, softly=True)
    names = layout.header if layout.header is not None else [str(at) for at in range(1, layout.width)]
    frame.columns = pd.Index(names, dtype=object)
    return frame


def _refuse_thousands(text: Text, layout: Layout) -> None:
    fields = [f for row in _parsed(text, layout, as_text=True).to_numpy(object) for f in row if "." in str(f)]
    fields = [f for f in fields if is_number(f)]
    if fields and all(re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", f.strip()) for f in fields):
        raise InputError(
            f"{text.name}: {fields[0]!r} may be a number with three decimals or thousands; say decimal='.' "
            "or decimal=','"
        )


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
        f"{where}: {fields[at]!r} is no number; if the column describes genes or samples, put it into "
        "a file of its own (genes=..., samples=...)"
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
