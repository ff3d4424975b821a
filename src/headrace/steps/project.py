"""Scores of new cells on the principal components of an earlier file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Holds, StreamSpec
from ..errors import InputError, NotCarriedWarning, PlanError, nearest
from ..protocols import Accumulator, Fit, Transform
from ..sources.h5ad.open import open_h5ad
from ..stats.gram import Values, ValueSums
from ..support.given import check_fields
from ..support.inputs import close_inputs
from ..support.places import absolute
from .pca import Scores

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProjectPCA(Fit):
    """Add the scores of cells on the principal components of an earlier file, as `scanpy.tl.ingest` does.

    Adds `obsm["X_pca"]`, float32, shape (n_obs, n_comps), and `varm["PCs"]`, the loadings of the file. As in scanpy,
    values are centred by their own means if those of the file were, which takes one pass; treat the cells as those of
    the file were treated, with `Scale(max_value=10, store=False)` if they were scaled.

    Parameters
    ----------
    reference
        An .h5ad file with components: of a plan with `PCA`, or of scanpy.
    missing
        What to do about genes that have loadings and are not in the stream: "error" names them, "zero" goes on as if
        their values were all the same.
    layer
        A saved layer to use instead of `X`.
    key
        Name of the entries in `varm` and `uns` of the file, if `PCA(key_added=...)` gave it.
    key_added
        Name of the entries in `obsm` and `varm`, if they are to have another.

    Raises
    ------
    InputError
        If the file has no components.
    PlanError
        If genes are missing.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> mouse = hr.open_census(headrace.testing.build_demo_census(folder + "/census")).query("mus_musculus")
    >>> logged = [hr.NormalizeTotal(1e4), hr.Log1p()]
    >>> first = [*logged, hr.HighlyVariableGenes(n_top_genes=100), hr.PCA(5)]
    >>> _ = hr.Plan(mouse, first).write_h5ad(folder + "/mouse.h5ad")
    >>> again = hr.Plan(mouse, [*logged, hr.ProjectPCA(folder + "/mouse.h5ad")]).to_anndata()
    >>> again.obsm["X_pca"].shape == (mouse.spec.n_obs, 5)
    True
    """

    reference: str | os.PathLike[str]
    missing: Literal["error", "zero"] = "error"
    layer: str | None = None
    key: str | None = None
    key_added: str | None = None
    reads_var = True
    keeps_values = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "reference", os.fspath(self.reference))
        if self.missing not in ("error", "zero"):
            raise InputError(f"ProjectPCA(missing={self.missing!r}): 'error' or 'zero'")

    @property
    def passes(self) -> int:
        """One for the means, if values are centred."""
        return int(self._found[1])

    @property
    def _found(self) -> tuple[pd.DataFrame, bool]:
        path = str(absolute(self.reference))
        try:
            state = os.stat(path)
        except OSError as error:
            raise InputError(f"ProjectPCA: {path} cannot be read: {error.strerror}") from None
        return _loadings(path, self.key, state.st_mtime_ns, state.st_size)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless the layer and the genes are there."""
        if self.layer is not None and self.layer not in spec.layers:
            raise PlanError(f"ProjectPCA: no layer {self.layer!r} was saved before; {nearest(self.layer, spec.layers)}")
        holds = spec.holds if self.layer is None else spec.layers[self.layer]
        if holds in (Holds.COUNTS, Holds.UNKNOWN):
            raise PlanError(
                f"ProjectPCA: values are {holds} here; treat them as those of the file were, e.g. with "
                "NormalizeTotal(1e4), Log1p() and Scale(max_value=10, store=False)"
            )
        values, loadings = self._of(spec)
        return self._scores(values, loadings, np.zeros(loadings.shape[1])).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the means of the cells, if values are centred."""
        values, loadings = self._of(spec)
        mean = -values.zero
        if self._found[1]:
            mean = yield ValueSums(values)
        return self._scores(values, loadings, mean @ loadings)

    def _of(self, spec: StreamSpec) -> tuple[Values, Floats]:
        """Return what of the stream takes part, and its loadings."""
        table = self._found[0]
        there = table.index.isin(spec.var.index)
        if not there.any():
            raise PlanError(
                f"ProjectPCA: no gene of {self.reference} (e.g. {table.index[0]!r}) is in the stream (e.g. "
                f"{spec.var.index[0]!r}); name them alike, with var_names= or var_index= where the source is opened"
            )
        if not there.all() and self.missing == "error":
            gone = table.index[~there]
            raise PlanError(
                f"ProjectPCA: {len(gone)} of {len(table)} genes of {self.reference} are not in the stream, e.g. "
                f"{gone[0]!r}; a Census query has more genes with genes='any', and missing='zero' goes on without them"
            )
        genes = spec.var.index.isin(table.index)
        scaling = spec.scaling if self.layer is None else None
        return Values(genes, self.layer, scaling), table.loc[spec.var.index[genes]].to_numpy(np.float64)

    def _scores(self, values: Values, loadings: Floats, offset: Floats) -> Scores:
        obsm, varm = ("X_pca", "PCs") if self.key_added is None else (self.key_added,) * 2
        return Scores(values, loadings, offset, (obsm, varm, None))


@cache
def _loadings(path: str, key: str | None, mtime: int, size: int) -> tuple[pd.DataFrame, bool]:
    """Return the loadings of a file by gene, those genes that have some, and whether values were centred."""
    del mtime, size  # another file has others
    varm, uns = ("PCs", "pca") if key is None else (key, key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotCarriedWarning)  # nothing else of the file matters here
        source = open_h5ad(path, holds="standardized", uns="keep")
        spec = source.spec
        close_inputs(source)
    if varm not in spec.varm:
        raise InputError(
            f"ProjectPCA: {path} has no components: varm has no {varm!r}, {nearest(varm, spec.varm)}; a plan with PCA "
            "writes them"
        )
    table = pd.DataFrame(np.asarray(spec.varm[varm], dtype=np.float64), index=spec.var.index)
    about = spec.uns.get(uns, {})
    params = about.get("params", {}) if isinstance(about, dict) else {}
    return table[(table != 0).any(axis=1)], bool(params.get("zero_center", True))
