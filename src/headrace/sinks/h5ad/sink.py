"""An .h5ad file, written as cells come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...afterwards import Reading
from ...chunk import Chunk, Matrix, StreamSpec
from ...protocols import Sink, Writer
from ...support.atomic import Partial, atomic_file
from ...support.columns import without_unused_colors
from ...support.memory import n_cores
from ...support.places import absolute
from ...support.workers import Workers
from .again import Again, Handles
from .apart import apart
from .check import check_spec
from .digests import RowDigest, record, row_checksums
from .elements import LIBVER, empty_dict, link_raw, write_element
from .frames import FrameWriter
from .hdf5 import ALIGNED, Appender, Compression, Storage
from .integers import check_counted, check_whole, counted
from .later import Later
from .output import Output
from .prepared import FilteredRows, H5adPreparer, index_type, value_type
from .reorder import ReorderBuffer


@dataclass(frozen=True)
class H5ad(Sink):
    """Writes an .h5ad file in anndata's encoding, in one go and in flat memory.

    Parameters
    ----------
    path
        The file.
    overwrite
        Whether an existing file may be replaced.
    compression
        None, or "gzip".
    checksum
        Whether every chunk of numbers carries a checksum that HDF5 checks when it reads.
    counts
        How X and layers that hold counts are stored; all else is float32.
    """

    path: Path
    overwrite: bool = False
    compression: Compression = None
    checksum: bool = True
    counts: Literal["float32", "int32"] = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", absolute(self.path))

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @property
    def gives_back(self) -> bool:
        """What is compressed would take longer to read than what was kept of the source."""
        return self.compression is None

    def check(self, spec: StreamSpec) -> None:
        """Raise `OutputError` if a stream has what such a file cannot hold; nothing is read or written for that."""
        check_spec(spec)
        if self.counts == "int32":
            check_counted(spec)

    def preparer(self, spec: StreamSpec) -> H5adPreparer:
        """Return what filters chunks in other processes."""
        whole = frozenset(counted(spec) if self.counts == "int32" else ())
        return H5adPreparer(self.compression, self.checksum, spec.nnz, whole)

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[Writer]:
        """Begin the file; leaving the block normally moves it into place."""
        with (
            atomic_file(self.path, self.overwrite) as beside,
            Workers(1, "headrace-hdf5") as thread,
            apart(self._file(beside, spec), thread) as writer,
        ):
            yield writer

    @contextmanager
    def _file(self, beside: Partial, spec: StreamSpec) -> Iterator[H5adWriter]:
        """Open the HDF5 file and close it."""
        with ExitStack() as stack:
            output = Output(beside, self.path)
            stack.callback(output.close)
            try:
                with h5py.File(output, "w", libver=LIBVER, **ALIGNED) as file:
                    outbox = ReorderBuffer(threads=n_cores())
                    stack.callback(outbox.close)
                    storage = Storage(self.compression, self.checksum, outbox, output.lending)
                    with output.told():
                        whole = counted(spec) if self.counts == "int32" else ()
                        writer = H5adWriter(file, spec, beside.path.parent, storage, output.told, whole, output.again)
                    stack.callback(writer.close)
                    yield writer
                output.wait()
            except Exception as error:
                if output.error is None:
                    raise
                raise output.failure(error) from error
            if output.error is not None:
                raise output.failure(output.error) from output.error


class H5adWriter(Writer):
    """Appends chunks; see `H5ad`."""

    def __init__(
        self,
        file: h5py.File,
        spec: StreamSpec,
        folder: Path,
        storage: Storage,
        told: Callable[[], AbstractContextManager[None]] = nullcontext,
        whole: Collection[str] = (),
        opened: Callable[[], Handles] | None = None,
    ) -> None:
        self.whole, self.opened = whole, opened
        self.handles: Handles | None = None
        self.file, self.folder, self.storage, self.told = file, folder, storage, told
        self.most = (spec.n_obs, spec.nnz)
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            empty_dict(file, name)
        self.obs = FrameWriter(file.create_group("obs"), spec.obs, folder, spec.n_obs, storage)
        self.matrices: dict[str, SparseWriter | DenseWriter] = {}
        self.obsm: dict[str, Later] = {}
        self.rows: dict[str, RowDigest] = {}
        self.n_obs = 0

    def write(self, chunk: Chunk) -> None:
        """Append cells."""
        with self.told():
            self.obs.append(chunk.rows)
            self._append("X", chunk.X)
            for name, layer in chunk.layers.items():
                self._append(f"layers/{name}", layer)
        self.add(chunk.obsm)
        self.n_obs += chunk.n_obs

    def again(self) -> Sequence[Reading]:
        """Return what reads X back: as much with each call as was written at once."""
        with self.told():
            self.storage.outbox.flush()
            X = self.matrices["X"]
            assert self.opened is not None
            assert isinstance(X, SparseWriter)
            self.handles = self.opened()
            stored = (X.data.stored(), X.indices.stored(), X.indptr.stored())
        return Again(self.handles, stored, X.n_vars, X.parts, self.rows["X"].parts).readings()

    def add(self, obsm: Mapping[str, npt.NDArray[Any]]) -> None:
        """Append rows to arrays of cells."""
        with self.told():
            for name, values in obsm.items():
                if name not in self.obsm:
                    self.obsm[name] = Later(self.folder, values)
                self.obsm[name].append(values)

    def finish(self, spec: StreamSpec) -> None:
        """Write genes and `uns`, and what is left in buffers."""
        with self.told():
            self._finish(spec)

    def _finish(self, spec: StreamSpec) -> None:
        if spec.obsm:
            self.storage.outbox.flush()  # as before X is read back: all lies in the file where it would then
        for name in ("X", *(f"layers/{layer}" for layer in spec.layers)):
            if name not in self.matrices:  # no chunk came
                self._append(name, sparse.csr_array((0, spec.n_vars), dtype=np.float32))
            self.matrices[name].finish((self.n_obs, spec.n_vars))
        for name, empty in spec.obsm.items():
            array = DenseWriter(self.file["obsm"], name, empty.shape[1], self.most, self.storage, empty.dtype)
            for values in self.obsm[name].blocks() if name in self.obsm else ():
                array.append(values)
            array.finish((self.n_obs, empty.shape[1]))
        self.obs.finish()
        group = self.file.create_group("var")
        var = FrameWriter(group, spec.var.iloc[:0], self.folder, spec.n_vars, self.storage)
        var.append(spec.var)
        var.finish()
        self.storage.outbox.flush()
        if spec.raw is not None:
            link_raw(self.file, f"layers/{spec.raw}")
        for name, values in spec.varm.items():
            write_element(self.file["varm"], name, values)
        for key, value in without_unused_colors(spec.uns, self.obs.used).items():
            write_element(self.file["uns"], key, value)
        record(self.file, self.rows, {**self.obs.marks, **var.marks})

    def close(self) -> None:
        """Let go of temporary files, whatever has happened."""
        self.obs.close()
        if self.handles is not None:
            self.handles.close()

    def _append(self, name: str, X: Matrix | FilteredRows) -> None:
        if name not in self.matrices:
            kind = DenseWriter if isinstance(X, np.ndarray) else SparseWriter
            dtype = value_type(name in self.whole)
            self.matrices[name] = kind(self.file, name, X.shape[1], self.most, self.storage, dtype)
            self.rows[name] = RowDigest()
        if isinstance(X, FilteredRows):
            self.storage.outbox.put(lambda: X.marks, self.rows[name].add)
        else:
            if name in self.whole:
                check_whole(name, X)
            self.storage.outbox.put(partial(row_checksums, X), self.rows[name].add)
        self.matrices[name].append(X)


class SparseWriter:
    """A CSR matrix in anndata's encoding; `indices` and `indptr` have the same dtype."""

    def __init__(
        self,
        file: h5py.File,
        name: str,
        n_vars: int,
        most: tuple[int, int | None],
        storage: Storage,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        n_obs, nnz = most
        self.group = file.create_group(name)
        self.group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        index = index_type(nnz)
        self.data = Appender(self.group, "data", dtype, storage, most=nnz)
        self.indices = Appender(self.group, "indices", index, storage, most=nnz)
        self.indptr = Appender(self.group, "indptr", index, storage, most=n_obs + 1)
        self.indptr.append(np.zeros(1, dtype=index))
        self.n_vars, self.nnz = n_vars, 0
        self.parts: list[tuple[int, int]] = []
        """Rows and values that were appended at once."""

    def append(self, X: sparse.csr_array | FilteredRows) -> None:
        """Add rows."""
        if isinstance(X, FilteredRows):
            assert X.before == self.nnz, "it was made for another place in the file"
            self.data.append_filtered(X.data.head, X.data.chunks, X.data.tail)
            self.indices.append_filtered(X.indices.head, X.indices.chunks, X.indices.tail)
            ends = X.ends
        else:
            self.data.append(X.data)
            self.indices.append(X.indices)
            ends = X.indptr[1:].astype(np.int64)
        self.indptr.append(ends + self.nnz)
        self.nnz += X.nnz
        self.parts.append((len(ends), int(X.nnz)))

    def finish(self, shape: tuple[int, int]) -> None:
        """Write what is left, and the shape."""
        for part in (self.data, self.indices, self.indptr):
            part.finish()
        self.group.attrs["shape"] = np.array(shape, dtype=np.int64)


class DenseWriter:
    """A dense matrix in anndata's encoding."""

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        width: int,
        most: tuple[int, int | None],
        storage: Storage,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.rows = Appender(group, name, dtype, storage, width=(width,), most=most[0])
        self.rows.dataset.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    def append(self, X: Any) -> None:
        """Add rows of an array."""
        self.rows.append(X)

    def finish(self, shape: tuple[int, int]) -> None:
        """Write what is left."""
        del shape
        self.rows.finish()
