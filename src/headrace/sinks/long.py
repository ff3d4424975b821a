"""A long table of groups: one row per group and gene, one column per statistic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..chunk import Chunk, StreamSpec
from ..errors import InputError, OutputError
from ..protocols import Sink, Writer
from ..support.atomic import atomic_file, check_target
from ..support.given import check_fields
from ..support.target import check_output_fits
from .gz import gzipped
from .table import table_path

ROWS = 200_000
"""Rows that are written at once, about."""


@dataclass(frozen=True)
class LongTable(Sink):
    """Writes one row per group and gene, for `GroupStatistics`: what plotting and databases take.

    Columns: those of `obs`, "gene" (the index of `var`), "feature_name" if `var` has it, and each layer. What is not
    known (NaN) is empty in text and null in parquet. Written as it comes, in flat memory; the file appears whole or not
    at all.

    Parameters
    ----------
    path
        Ends in .csv, .tsv, .csv.gz, .tsv.gz or .parquet.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the name ends in something else, or two columns have one name.
    OutputError
        If the file exists, there is no room for so many lines of text, or writing fails.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> obs = pd.DataFrame({"cell_type": pd.Categorical(["T", "T"])}, index=["a", "b"])
    >>> cells = ArraySource(np.array([[1, 0], [2, 3]]), obs, pd.DataFrame(index=["g", "h"]))
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> _ = hr.Plan(cells, [hr.GroupStatistics("cell_type", ["n_obs", "mean"])]).write(hr.LongTable(path))
    >>> path.read_text().splitlines()
    ['"cell_type","n_obs","gene","mean"', '"T",2,"g",1.5', '"T",2,"h",1.5']
    """

    path: str | Path
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "path", table_path(self.path))

    @property
    def files(self) -> tuple[Path]:
        """The file."""
        return (Path(self.path),)

    def check(self, spec: StreamSpec) -> None:
        """Raise our error if the file may not be written, or the table would have two columns of one name."""
        check_target(Path(self.path), self.overwrite)
        names = _columns(spec)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"LongTable: obs, genes and layers have more than one column {twice!r}; rename one")

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[LongWriter]:
        """Begin the file; leaving the block normally moves it into place."""
        self.check(spec)
        path = Path(self.path)
        least = _least(spec) if path.suffix in (".csv", ".tsv") else 0  # others are compressed
        check_output_fits(path.parent, least, least, 0)
        try:
            with (
                atomic_file(path, self.overwrite) as partial,
                partial.file() as raw,
                gzipped(raw, path) as packed,
            ):
                writer = LongWriter(packed, path, spec)
                yield writer
                writer.close()
        except OSError as error:
            raise OutputError(f"writing {path} failed: {error}") from error


class LongWriter(Writer):
    """Appends groups; see `LongTable`."""

    def __init__(self, file: IO[bytes], path: Path, spec: StreamSpec) -> None:
        self.genes = {"gene": pa.array(spec.var.index.astype(str), pa.string())}
        if "feature_name" in spec.var:
            self.genes["feature_name"] = pa.array(spec.var["feature_name"].astype(str), pa.string())
        self.layers = list(spec.layers)
        self.schema = _schema(spec)
        self.out: Any
        if path.suffix == ".parquet":
            self.out = pyarrow.parquet.ParquetWriter(file, self.schema, compression="zstd")
        else:
            how = pyarrow.csv.WriteOptions(delimiter="\t" if ".tsv" in path.suffixes[-2:] else ",")
            self.out = pyarrow.csv.CSVWriter(pa.PythonFile(file, "w"), self.schema, write_options=how)

    def write(self, chunk: Chunk) -> None:
        """Append groups."""
        step = max(1, ROWS // max(1, chunk.n_vars))
        for start in range(0, chunk.n_obs, step):
            stop = min(start + step, chunk.n_obs)
            group = np.repeat(np.arange(stop - start), chunk.n_vars)
            gene = np.tile(np.arange(chunk.n_vars), stop - start)
            columns = [
                pa.array(_plain(chunk.obs[name].iloc[start:stop]), self.schema.field(name).type, from_pandas=True).take(
                    pa.array(group)
                )
                for name in chunk.obs
            ]
            columns += [values.take(pa.array(gene)) for values in self.genes.values()]
            for name in self.layers:
                X = chunk.layers[name][start:stop]
                values = X if isinstance(X, np.ndarray) else X.toarray()
                columns.append(pa.array(values.ravel(), self.schema.field(name).type, from_pandas=True))
            self.out.write_table(pa.Table.from_arrays(columns, schema=self.schema))

    def finish(self, spec: StreamSpec) -> None:
        """Nothing is known only now."""

    def close(self) -> None:
        """Write what is left."""
        self.out.close()


def _columns(spec: StreamSpec) -> list[str]:
    return [*spec.obs, "gene", *(["feature_name"] if "feature_name" in spec.var else []), *spec.layers]


def _least(spec: StreamSpec) -> int:
    """Return the bytes that a table of text takes at least, where it is known how many groups will come; else 0."""
    if spec.filters:
        return 0
    columns = _columns(spec)
    texts = [spec.var.index, *([spec.var["feature_name"]] if "feature_name" in spec.var else [])]
    genes = sum(sum(map(len, text.astype(str))) + 2 * spec.n_vars for text in texts)  # in quotes
    return spec.n_obs * (genes + len(columns) * spec.n_vars)


def _schema(spec: StreamSpec) -> pa.Schema:
    kinds = []
    for name in spec.obs:
        dtype: Any = spec.obs[name].dtype
        number = not isinstance(dtype, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(dtype)
        kinds.append(pa.from_numpy_dtype(np.dtype(dtype.type)) if number else pa.string())
    genes = [pa.string()] * (len(_columns(spec)) - len(kinds) - len(spec.layers))
    return pa.schema(list(zip(_columns(spec), [*kinds, *genes, *[pa.float32()] * len(spec.layers)], strict=True)))


def _plain(values: pd.Series) -> Any:
    """Return a column as what arrow makes its type of: numbers, or text."""
    if isinstance(values.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        return values.astype(str).to_numpy(dtype=object)
    return values.to_numpy()
