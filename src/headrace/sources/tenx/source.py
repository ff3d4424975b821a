"""Files of Cell Ranger as a source of cells."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...chunk import Chunk, Cost, Holds, StreamSpec
from ...errors import InputError, nearest
from ...protocols import Source
from ...support.given import check_call
from ...support.inputs import opened
from ...support.memory import opening
from ...support.places import absolute, look, temporary
from ...support.prefetch import prefetch
from ..foreign import TENX_FOLDER, is_hdf5, recognized, refusal
from ..h5ad.preads import Disk, stamp
from ..h5ad.values import Names
from ..names import named
from ..ranges import CellRange
from ..summary import Exact, Summaries
from .hdf5 import open_hdf5
from .mtx import Mtx, find, read_barcodes, read_features


@dataclass(frozen=True)
class TenxSource(Source[CellRange]):
    r"""Cells and genes of a 10x .h5 file or folder; see `open_10x`. Holds a path, never an open handle.

    Examples
    --------
    >>> import tempfile, headrace as hr
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "barcodes.tsv").write_text("AAAC-1\nAAAG-1\n")
    >>> _ = (folder / "genes.tsv").write_text("ENSG1\tA\nENSG2\tB\n")
    >>> head = "%%MatrixMarket matrix coordinate integer general"
    >>> _ = (folder / "matrix.mtx").write_text(f"{head}\n2 2 3\n1 1 5\n1 2 1\n2 2 2\n")
    >>> source = hr.open_10x(folder)
    >>> source.spec.n_obs, source.spec.var["feature_name"].tolist()
    (2, ['A', 'B'])
    """

    path: str
    stamp: tuple[tuple[int, int], ...]
    files: tuple[Path, ...] = ()
    feature_type: str | None = "Gene Expression"
    genome: str | None = None
    scratch: str | None = None
    var_names: str | None = None
    most_nnz = 1_200_000

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was opened or looked up."""
        return {k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__}

    @property
    def spooled(self) -> bool:
        """Whether what was read is kept for further passes."""
        return bool(self._matrix.spooled)

    @cached_property
    def spec(self) -> StreamSpec:
        """What is known of the stream before X is read."""
        no_cells = self._summaries.empty(pd.DataFrame(index=self._barcodes[:0]))
        return StreamSpec(self.var, no_cells, len(self._barcodes), self._matrix.nnz, Holds.UNKNOWN)

    def refs(self, nnz: int) -> list[CellRange]:
        """Return one span of cells per chunk, each of about `nnz` non-zeros."""
        return list(self._matrix.refs(nnz))

    def read(self, refs: Sequence[CellRange]) -> Iterator[Chunk]:
        """Read chunks, in order; X is read ahead."""
        for span, X in zip(refs, prefetch(self._matrix.read(refs)), strict=True):
            obs = pd.DataFrame(index=self._barcodes[span.start : span.stop])
            yield Chunk(*self._summaries.split(X, obs, span.start, self._matrix.names.exact))

    def cost(self) -> Cost:
        """Say what reading all of it takes."""
        about = self._matrix
        held = 90 * len(self._barcodes)
        return Cost(about.expected, about.bytes, about.memory + held, disk=about.scratch)

    def identity(self) -> str:
        """Return the files, their sizes and times of change, and what is read of them, as a text."""
        return json.dumps([self.path, self.stamp, self.feature_type, self.genome, self.var_names])

    def provenance(self) -> dict[str, Any]:
        """Say which features of which file it is, in plain values."""
        return {
            "query": {
                "file": os.path.basename(self.path),
                "feature_type": self.feature_type or "all",
                "left_out": json.dumps(self.left_out),
            }
        }

    @property
    def left_out(self) -> dict[str, int]:
        """How many features of other types there are, by type."""
        found = self._opened[2]["feature_types"][~self._of_type].value_counts()
        return {str(name): int(n) for name, n in found.items()}

    @cached_property
    def var(self) -> pd.DataFrame:
        """The features that are read, by id."""
        var = self._opened[2][self._summaries.keep]
        again = var["feature_id"].duplicated()
        if again.any():
            twice = var["feature_id"][again].iloc[0]
            raise InputError(f"{self.path} has feature {twice!r} more than once; choose a genome or feature_type")
        var = var.set_index("feature_id")
        return var if self.var_names is None else named(var, self.var_names, f"the features of {self.path}")

    @cached_property
    def _summaries(self) -> Summaries:
        """Features that are no genes, but the summary of a counter; of those of the type and genome."""
        return Summaries.among(self._opened[2]["feature_id"], of=self._of_type)

    @property
    def _matrix(self) -> Any:
        return self._opened[0]

    @property
    def _barcodes(self) -> pd.Index:
        return self._opened[1]

    @cached_property
    def _of_type(self) -> npt.NDArray[np.bool_]:
        """Which features are of the type and genome that were asked for."""
        table = self._opened[2]
        keep = np.ones(len(table), dtype=bool)
        if self.feature_type is not None:
            keep &= (table["feature_types"] == self.feature_type).to_numpy()
            if not keep.any():
                known = list(table["feature_types"].unique())
                raise InputError(
                    f"feature_type={self.feature_type!r}: {self.path} has none; {nearest(self.feature_type, known)}"
                )
        if self.genome is not None and "genome" in table:
            keep &= (table["genome"] == self.genome).to_numpy()
            if not keep.any():
                raise InputError(
                    f"genome={self.genome!r}: {self.path} has none; {nearest(self.genome, table['genome'].unique())}"
                )
        return keep

    def _closed(self) -> None:
        """Close the file."""
        found = self.__dict__.pop("_opened", None)
        if found is not None:
            found[0].disk.close()

    @cached_property
    def _opened(self) -> tuple[Any, pd.Index, pd.DataFrame]:
        if len(self.files) == 1:
            opened(self, self._closed)
            return open_hdf5(Disk(self.path, self.stamp[0]), self.genome)
        matrix, features, barcodes = self.files
        var, names = read_features(features), read_barcodes(barcodes)
        exact = Exact.among(var["feature_id"])
        about = Names(str(matrix), lambda i: str(names[i]), lambda j: str(var["feature_id"].iloc[j]), "refuse", exact)
        return Mtx(matrix, len(names), len(var), self.scratch or str(temporary()), about), names, var


def open_10x(
    path: str | os.PathLike[str],
    *,
    feature_type: str | None = "Gene Expression",
    genome: str | None = None,
    var_names: str | None = None,
    scratch: str | os.PathLike[str] | None = None,
    memory: int | str | None = None,
) -> TenxSource:
    r"""Open what Cell Ranger writes as a source of cells: an .h5 file, or a folder of matrix.mtx.

    Versions 2 (genes.tsv; a group per genome) and 3 (features.tsv; "matrix"), packed or not; also of CellBender and
    STARsolo, which write the same. Streamed in flat memory; the text of a folder goes through a temporary file of
    12 bytes per value (24 if it is not in the order of cells).

    Parameters
    ----------
    path
        The file, the folder, or matrix.mtx in it.
    feature_type
        Which features to read, e.g. "Antibody Capture"; None: all.
    genome
        Which genome, if there are several.
    var_names
        Column of var to call the features by: "feature_name", made unique as `var_names_make_unique` does; the ids are
        kept in `var["feature_id"]`. None: they are called by their ids.
    scratch
        Folder for temporary files; the system's by default (TMPDIR).
    memory
        The most that opening may take, e.g. "1GB", as names of cells and features are held in memory; by default what a
        run may take. What a run takes, it says itself.

    Returns
    -------
    A source whose `var` is indexed by `feature_id`, with `feature_name`, `feature_types` and (from .h5) `genome`;
    `.left_out` says how many features of other types there are.

    Raises
    ------
    InputError
        If it is no such file or folder, or has no such features. `SourceError`: it is broken.

    Examples
    --------
    >>> import tempfile, headrace as hr
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "barcodes.tsv").write_text("AAAC-1\nAAAG-1\n")
    >>> _ = (folder / "genes.tsv").write_text("ENSG1\\tA\nENSG2\\tB\n")
    >>> head = "%%MatrixMarket matrix coordinate integer general"
    >>> _ = (folder / "matrix.mtx").write_text(f"{head}\n2 2 3\n1 1 5\n1 2 1\n2 2 2\n")
    >>> hr.Plan(hr.open_10x(folder)).to_anndata().X.toarray()
    array([[5., 0.],
           [1., 2.]], dtype=float32)
    """
    check_call(open_10x, locals())
    place = absolute(path)
    if scratch is not None and not os.path.isdir(scratch):
        raise InputError(f"scratch={os.fspath(scratch)!r} is no folder")
    if place.name.endswith((".mtx", ".mtx.gz")):
        place = place.parent
    there = look(place)
    if place.is_dir():
        if recognized(str(place)) is not TENX_FOLDER:
            raise InputError(f"{refusal(place, 'no 10x folder')}; it has no matrix.mtx (or .gz of it)")
        files: tuple[Path, ...] = (
            find(place, "matrix.mtx"),
            find(place, "features.tsv", "genes.tsv"),
            find(place, "barcodes.tsv"),
        )
    elif place.is_file():
        if not is_hdf5(place):
            wanted = "no .h5 of Cell Ranger"
            raise InputError(refusal(place, wanted) or f"{place} is {wanted}, and none of a known kind")
        files = (place,)
    elif there is not None:
        raise InputError(f"{place} is a pipe or device; write what comes from it to a file first")
    else:
        raise InputError(f"there is no file or folder {place}")
    stamps = tuple(stamp(file.stat()) for file in files)
    source = TenxSource(
        str(place), stamps, files, feature_type, genome, None if scratch is None else str(scratch), var_names
    )
    with opening(memory):
        spec = source.spec  # what is broken is named now, not later
    if spec.n_vars:
        source._summaries.warn(str(place), stacklevel=2)
    if not spec.n_obs or not spec.n_vars:
        raise InputError(f"{place} has {spec.n_obs} cells and {spec.n_vars} features: there is nothing to do")
    return source
