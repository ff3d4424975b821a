"""A table of text, for spreadsheets and for R: genes x samples, with what describes them beside it."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from scipy import sparse

from ..chunk import Chunk, Matrix, StreamSpec
from ..errors import InputError, OutputError
from ..protocols import Sink, Writer
from ..support.atomic import atomic_file, check_target

BLOCK_VALUES = 2_000_000
"""Values that are dense at a time while writing."""


@dataclass(frozen=True)
class Table(Sink):
    """Writes X as genes x samples, one line per gene, and "x.samples.csv" and "x.genes.csv" beside "x.csv".

    Each file appears whole or not at all, the counts last. All of X is held until then, sparse if it is: a table is for
    data that can be looked at. `open_counts` reads it back, every float32 to the bit. Columns of `obs` and
    `var` are kept as text.

    Parameters
    ----------
    path
        Ends in .csv, .tsv, .csv.gz or .tsv.gz.
    layer
        Name of a layer; None for `X`.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    OutputError
        If a file exists, or writing fails.

    Examples
    --------
    >>> import tempfile, pandas as pd, headrace as hr
    >>> counts = hr.open_counts(pd.DataFrame({"s1": [5, 0, 2], "s2": [7, 1, 0]}, index=["g1", "g2", "g3"]))
    >>> path = Path(tempfile.mkdtemp()) / "out.csv"
    >>> _ = hr.Plan(counts).write(hr.Table(path))
    >>> print(path.read_text().splitlines()[:2])
    ['"gene","s1","s2"', '"g1",5,7']
    """

    path: str | Path
    layer: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        path = Path(self.path)
        object.__setattr__(self, "path", path)
        if not path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
            raise InputError(f"cannot write {path}: the name of a table ends in .csv, .tsv, .csv.gz or .tsv.gz")

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """The files: counts, samples, genes."""
        path = Path(self.path)
        stem = path.name.removesuffix(".gz")[:-4].removesuffix(".counts")
        return path, path.with_name(f"{stem}.samples.csv"), path.with_name(f"{stem}.genes.csv")

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[TableWriter]:
        """Begin with no samples; leaving the block normally writes the files."""
        if self.layer is not None and self.layer not in spec.layers:
            raise InputError(f"Table(layer={self.layer!r}): there is no such layer")
        for path in self.files:
            check_target(path.absolute(), self.overwrite)
        writer = TableWriter(self.layer)
        yield writer
        assert writer.var is not None, "finish() was called"
        counts, samples, genes = self.files
        try:
            for path, frame, name in ((samples, writer.obs(), "sample"), (genes, writer.var, "gene")):
                with atomic_file(path, self.overwrite) as partial:
                    frame.to_csv(partial, index_label=name, lineterminator="\n")
            with atomic_file(counts, self.overwrite) as partial, partial.open("wb") as raw:
                packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if counts.suffix == ".gz" else raw
                writer.write_table(packed, "\t" if ".tsv" in counts.suffixes[-2:] else ",")  # type: ignore[arg-type] # a GzipFile is binary
                packed.close()
        except OSError as error:
            raise OutputError(f"writing {counts} failed: {error}") from error


class TableWriter(Writer):
    """Collects chunks; see `Table`."""

    def __init__(self, layer: str | None) -> None:
        self.layer = layer
        self.frames: list[pd.DataFrame] = []
        self.parts: list[Matrix] = []
        self.var: pd.DataFrame | None = None

    def write(self, chunk: Chunk) -> None:
        """Keep samples."""
        self.frames.append(chunk.obs)
        self.parts.append(chunk.X if self.layer is None else chunk.layers[self.layer])

    def finish(self, spec: StreamSpec) -> None:
        """Keep the genes."""
        self.var = spec.var

    def obs(self) -> pd.DataFrame:
        """Return the table of samples."""
        return pd.concat(self.frames)

    def write_table(self, file: IO[bytes], separator: str) -> None:
        """Write the numbers, some genes at a time."""
        assert self.var is not None
        samples, genes = self.obs().index.astype(str), self.var.index.astype(str)
        X: Any = self.parts[0] if len(self.parts) == 1 else None
        if X is None:
            dense = isinstance(self.parts[0], np.ndarray)
            X = np.concatenate(self.parts) if dense else sparse.vstack(self.parts, format="csr")
        X = X if isinstance(X, np.ndarray) else sparse.csc_array(X)
        values = X.ravel() if isinstance(X, np.ndarray) else X.data
        whole = bool(((np.floor(values) == values) & (np.abs(values) < 2.0**62)).all())
        text = io.StringIO()
        csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(["gene", *samples])
        file.write(text.getvalue().encode())
        kind = pa.int64() if whole else pa.float32()
        schema = pa.schema([("gene", pa.string()), *((str(at), kind) for at in range(len(samples)))])
        how = pyarrow.csv.WriteOptions(include_header=False, delimiter=separator)
        step = max(1, BLOCK_VALUES // max(1, len(samples)))
        with pyarrow.csv.CSVWriter(pa.PythonFile(file, "w"), schema, write_options=how) as out:
            for start in range(0, len(genes), step):
                block = _dense(X[:, start : start + step]).astype(np.int64 if whole else np.float32, copy=False)
                columns = [pa.array(genes[start : start + step]), *(pa.array(row) for row in block)]
                out.write_table(pa.Table.from_arrays(columns, schema=schema))


def _dense(X: Any) -> npt.NDArray[np.float32]:
    return X if isinstance(X, np.ndarray) else np.asarray(X.toarray())
