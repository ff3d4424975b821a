"""Tables that describe samples, genes or transcripts."""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import InputError, nearest
from ...support.places import look
from .layout import find_layout, rows_of
from .notices import AnnotationWarning
from .parquet import read_parquet
from .quantifiers import Run
from .text import Text, read_text


def read_annotation(path: Path, header: bool = True) -> pd.DataFrame:
    """Read a table whose first column holds ids."""
    if path.suffix == ".parquet":
        frame = read_parquet(path)
        return frame.set_index(frame.columns[0]) if isinstance(frame.index, pd.RangeIndex) else frame
    text = read_text(path)
    usual = "\t" if re.search(r"\.(tsv|tab)\b", path.name) else ","
    if not any(mark.encode() in text.data.split(b"\n", 1)[0] for mark in ",\t;| "):
        text = Text(text.name, b"\n".join(line.rstrip(b"\r") + usual.encode() for line in text.data.splitlines()))
        ids = [row[0] for row in rows_of(text, 0, usual) if row]
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
    mine = "".join(re.findall(r"\.(?:csv|tsv|parquet)(?:\.gz)?$", path.name))
    for ending in dict.fromkeys([mine or ".csv", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet"]):
        for name in dict.fromkeys([re.sub(r"\.(csv|tsv|parquet)(\.gz)?$", "", path.name), stem(path)]):
            found = path.with_name(f"{name}.{what}{ending}")
            if found.is_file() and found != path:
                return found
    return None


def tx2gene_of(given: str | os.PathLike[str] | pd.DataFrame | pd.Series, run: Run) -> pd.Series:
    """Return genes by transcript of a table whose first two columns are transcript and gene, with or without header.

    Parameters
    ----------
    given
        The table, or "gene_id": what the files say.
    run
        What was read of the files.
    """
    if isinstance(given, pd.Series):
        return given.astype(str)
    if isinstance(given, pd.DataFrame):
        if isinstance(given.index, pd.RangeIndex) and given.shape[1] > 1:
            given = given.set_index(given.columns[0])
        if not given.shape[1]:
            raise InputError("tx2gene: a table of transcripts and genes; there is one column only")
        return given.iloc[:, 0].astype(str)
    path = Path(given)
    look(path)
    if given == "gene_id" and not path.is_file():
        if run.genes is None or run.of_genes:
            what = "are of genes already" if run.of_genes else "do not say the genes of their transcripts; give a table"
            raise InputError(f"tx2gene='gene_id': files of {run.program} {what}")
        return run.genes
    if not path.is_file():
        raise InputError(f"tx2gene: there is no file {path}")
    frame = read_annotation(path, header=True)
    table = frame.iloc[:, 0].astype(str)
    head = re.sub(r"[^a-z]", "", str(frame.columns[0]).lower())
    if not head.startswith("gene") or re.search(r"\d{3}", str(frame.columns[0])):
        first = pd.Series([str(frame.columns[0])], index=[frame.attrs.get("first", "")])
        table = pd.concat([first, table])
    return table


def annotation(given: str | os.PathLike[str] | pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the table of samples or genes that was given, by its ids as text."""
    if given is None or isinstance(given, pd.DataFrame):
        table = given
    elif look(given) and Path(given).is_file():
        table = read_annotation(Path(given))
    else:
        raise InputError(f"there is no file {given}")
    if table is not None:
        table = table.set_axis(table.index.astype(str))
        refuse_twice(table.index, f"the ids of {given if not isinstance(given, pd.DataFrame) else 'the annotation'}")
    return table


def refuse_twice(index: pd.Index, what: str) -> None:
    """Raise if an id comes twice."""
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        rows = ", ".join(str(at + 1) for at in np.flatnonzero(index == twice)[:3])
        raise InputError(f"{what} are not unique: {twice!r} comes more than once, at {rows}; rename or sum them")


def joined(frame: pd.DataFrame, more: pd.DataFrame | None, what: str) -> pd.DataFrame:
    """Add the columns of the annotation, by id."""
    refuse_twice(frame.index, f"the ids of {what}")
    if more is None:
        return frame
    unknown = frame.index[~frame.index.isin(more.index)]
    if len(unknown) == len(frame):
        raise InputError(
            f"none of {len(frame)} {what} is in the table that describes them: {unknown[0]!r}; "
            f"{nearest(str(unknown[0]), more.index)}"
        )
    if len(unknown):
        warnings.warn(
            f"{len(unknown)} of {len(frame)} {what} are not in the table that describes them, e.g. {unknown[0]!r}",
            AnnotationWarning,
            stacklevel=4,
        )
    return frame.drop(columns=[name for name in more if name in frame]).join(more)
