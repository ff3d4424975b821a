"""A table of text, for spreadsheets and for R: genes x samples, with what describes them beside it."""

from __future__ import annotations

import csv
import io
import os
import re
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
import pyarrow.parquet
from scipy import sparse

from ..chunk import Chunk, Matrix, StreamSpec
from ..errors import InputError, OutputError
from ..protocols import Sink, Writer
from ..support.atomic import atomic_file, check_target
from ..support.given import check_fields
from ..support.places import absolute
from .gz import gzipped

ENDING = re.compile(r"\.(csv|tsv|csv\.gz|tsv\.gz|parquet)$")


def table_path(path: str | os.PathLike[str]) -> Path:
    """Return where a table is written, whatever folder the process is in by then; raise if its name says no format."""
    whole = absolute(path)
    if not ENDING.search(whole.name):
        raise InputError(f"cannot write {whole}: the name of a table ends in .csv, .tsv, .csv.gz, .tsv.gz or .parquet")
    return whole


BLOCK_VALUES = 2_000_000
"""Values that are dense at a time while writing."""


@dataclass(frozen=True)
class Table(Sink):
    """Writes X as genes x samples, one row per gene, and "x.samples.csv" and "x.genes.csv" beside "x.csv".

    Each file appears whole or not at all, the counts last. All of X is held until then, sparse if it is: a table is for
    data that can be looked at. `open_counts` reads it back, every float32 to the bit. Columns of `obs` and
    `var` are kept as text.

    Parameters
    ----------
    path
        Ends in .csv, .tsv, .csv.gz, .tsv.gz or .parquet; the tables beside it end alike.
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
        check_fields(self)
        object.__setattr__(self, "path", table_path(self.path))

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """The files: counts, samples, genes."""
        path = Path(self.path)
        found = ENDING.search(path.name)
        assert found is not None, "checked when it was made"
        stem, ending = path.name[: found.start()], found[0]
        return path, path.with_name(f"{stem}.samples{ending}"), path.with_name(f"{stem}.genes{ending}")

    def check(self, spec: StreamSpec) -> None:
        """Raise our error if there is no such layer, or a file may not be written."""
        if self.layer is not None and self.layer not in spec.layers:
            raise InputError(f"Table(layer={self.layer!r}): there is no such layer")
        for path in self.files:
            check_target(path, self.overwrite)

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[TableWriter]:
        """Begin with no samples; leaving the block normally writes the files."""
        self.check(spec)
        writer = TableWriter(self.layer)
        yield writer
        assert writer.var is not None, "finish() was called"
        counts, samples, genes = self.files
        try:
            for path, frame, name in ((samples, writer.obs(), "sample"), (genes, writer.var, "gene")):
                with atomic_file(path, self.overwrite) as partial, partial.file() as raw:
                    _write_frame(frame.rename_axis(name), raw, path)
            if counts.suffix == ".parquet":
                with atomic_file(counts, self.overwrite) as partial, partial.file() as raw:
                    writer.write_parquet(raw)
                return
            with (
                atomic_file(counts, self.overwrite) as partial,
                partial.file() as raw,
                gzipped(raw, counts) as packed,
            ):
                writer.write_table(packed, "\t" if ".tsv" in counts.suffixes[-2:] else ",")
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

    def write_parquet(self, file: IO[bytes]) -> None:
        """Write the numbers as parquet: a column "gene", which pandas takes for the index, and one per sample."""
        X, genes, samples, whole = self._matrix()
        name = next(one for one in ("gene", "gene_id", "__gene__") if one not in set(samples))
        kind = np.int64 if whole else np.float32
        like = pd.DataFrame(np.zeros((0, len(samples)), kind), pd.Index([], dtype=object, name=name), samples)
        fields = [*(pa.field(one, pa.from_numpy_dtype(kind)) for one in samples), pa.field(name, pa.string())]
        schema = pa.schema(fields, pa.Schema.from_pandas(like).metadata)
        step = max(1, BLOCK_VALUES // max(1, len(samples)))
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as out:
            for start in range(0, len(genes), step):
                block = _dense(X[:, start : start + step]).astype(kind, copy=False)
                columns = [*(pa.array(row) for row in block), pa.array(genes[start : start + step])]
                out.write_table(pa.Table.from_arrays(columns, schema=schema))

    def _matrix(self) -> tuple[Any, pd.Index, pd.Index, bool]:
        """Return X by genes, names of genes and samples, and whether all values are whole."""
        assert self.var is not None
        samples, genes = self.obs().index.astype(str), self.var.index.astype(str)
        X: Any = self.parts[0] if len(self.parts) == 1 else None
        if X is None:
            dense = isinstance(self.parts[0], np.ndarray)
            X = np.concatenate(self.parts) if dense else sparse.vstack(self.parts, format="csr")
        X = X if isinstance(X, np.ndarray) else sparse.csc_array(X)
        values = X.ravel() if isinstance(X, np.ndarray) else X.data
        return X, genes, samples, bool(((np.floor(values) == values) & (np.abs(values) < 2.0**62)).all())

    def write_table(self, file: IO[bytes], separator: str) -> None:
        """Write the numbers, some genes at a time."""
        X, genes, samples, whole = self._matrix()
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


def _write_frame(frame: pd.DataFrame, raw: IO[bytes], path: Path) -> None:
    """Write what describes samples or genes, as the ending of `path` says."""
    if path.suffix == ".parquet":
        mixed = [name for name in frame if frame[name].dtype == object]
        whole = frame.assign(**{name: frame[name].where(frame[name].isna(), frame[name].astype(str)) for name in mixed})
        whole.to_parquet(raw)
        return
    with gzipped(raw, path) as packed:
        frame.to_csv(packed, sep="\t" if ".tsv" in path.suffixes[-2:] else ",", lineterminator="\n")


def _dense(X: Any) -> npt.NDArray[np.float32]:
    return X if isinstance(X, np.ndarray) else np.asarray(X.toarray())
