"""Principal components, and the scores of cells on them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from math import isinf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Fit, Step, Transform
from ..scaling import Scaling
from ..stats import kernels
from ..stats.components import Components, components
from ..stats.gram import LARGEST_LOG, GramSums, LargestValues, Products, Values
from ..support.given import check_fields

Floats = npt.NDArray[np.float64]

MOST_GENES = 5000
"""Genes whose pairs are summed up: the sums take 8 bytes for each pair, and their components minutes beyond."""

DEFAULT_COMPS = 50


@dataclass(frozen=True)
class PCA(Fit):
    """Find principal components and the scores of cells on them, as `scanpy.pp.pca` with `svd_solver="arpack"`.

    Adds `obsm["X_pca"]`, float32, shape (n_obs, n_comps); `varm["PCs"]`, the loadings, float64, shape (n_vars,
    n_comps), 0 for genes outside of the mask; and `uns["pca"]` with `params`, `variance` and `variance_ratio`.

    Parameters
    ----------
    n_comps
        How many components, below the number of cells and of genes. None: 50, or one less than cells or genes if there
        are fewer.
    mask_var
        A column of `var` that says which genes take part; None for all genes, at most 5,000.
    zero_center
        True: principal components. False: a truncated SVD of values as they are.
    layer
        A saved layer to use instead of `X`, as it is.
    key_added
        Name of the entries in `obsm`, `varm` and `uns`, if they are to have another.
    bounded
        Whether it is known before how large values can be; a plan sets it. If not, it looks for the largest first.

    Raises
    ------
    PlanError
        If there is no such column or layer, or too many genes.
    InputError
        If there are too few genes or cells for so many components.

    Notes
    -----
    After `Scale` the components are of scaled values, whether these are written or, with `Scale(store=False)`, not.
    Exact: the covariance of all pairs of genes is summed up as whole numbers (one look at the cells, at values that are
    not zero), its eigenvectors are found in float64, and scores come in one more look. As the last step of a plan it
    does not hold back the cells: they are written first, and looked at where they were written. A component's largest
    loading is positive, as scikit-learn has it. Genes x genes x 8 bytes of memory.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> X = np.array([[1, 0, 2], [3, 0, 4], [0, 2, 6]])
    >>> source = ArraySource(X, pd.DataFrame(index=["a", "b", "c"]), pd.DataFrame(index=["g", "h", "i"]))
    >>> steps = [hr.Log1p(), hr.Scale(max_value=10, store=False), hr.PCA(n_comps=1, mask_var=None)]
    >>> hr.Plan(source, steps).to_anndata().obsm["X_pca"].round(2)
    array([[-0.93],
           [-0.85],
           [ 1.79]], dtype=float32)
    """

    n_comps: int | None = DEFAULT_COMPS
    mask_var: str | None = "highly_variable"
    zero_center: bool = True
    layer: str | None = None
    key_added: str | None = None
    bounded: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n_comps is not None and self.n_comps < 1:
            raise InputError(f"PCA(n_comps={self.n_comps!r}): at least 1, or None for {DEFAULT_COMPS} or fewer")
        if self.key_added is not None and (not self.key_added or "/" in self.key_added):
            raise InputError(f"PCA(key_added={self.key_added!r}): a name without '/'")

    @property
    def reads_var(self) -> bool:
        """It needs the mask, and how genes are scaled."""
        return True

    @property
    def passes(self) -> int:
        """One for the products, and one before it if it is not known how large values can be."""
        return 1 if self.bounded else 2

    @property
    def keeps_values(self) -> bool:
        """X stays as it is."""
        return True

    @property
    def adds_obsm(self) -> bool:
        """Scores of X need nothing else."""
        return self.layer is None

    def reads_genes(self, spec: StreamSpec) -> npt.NDArray[np.bool_]:
        """Mark the genes that take part."""
        return self._genes(spec)

    def suited(self, spec: StreamSpec) -> Step:
        """Return the same for values of any size, if such may come."""
        known = self._scaling(spec) is not None or self._holds(spec) == Holds.LOGGED
        return self if known else replace(self, bounded=False)

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the sums and of the covariances."""
        if self.mask_var is None or self.mask_var not in spec.var:
            return GramSums.memory(min(spec.n_vars, MOST_GENES))
        marked = int(np.asarray(spec.var[self.mask_var], dtype=bool).sum())
        return GramSums.memory(min(marked or spec.n_vars, MOST_GENES))

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless the mask and the layer are there, and what they hold has components."""
        if self.layer is not None and self.layer not in spec.layers:
            raise PlanError(f"PCA: no layer {self.layer!r} was saved before; {nearest(self.layer, spec.layers)}")
        if self.mask_var is not None and self.mask_var not in spec.var:
            remedy = (
                "put HighlyVariableGenes(n_top_genes=2000) before it, or take all genes with mask_var=None"
                if self.mask_var == "highly_variable"
                else f"{nearest(self.mask_var, spec.var.columns)}; mask_var=None takes all genes"
            )
            raise PlanError(f"PCA: var has no column {self.mask_var!r}; {remedy}")
        if self.mask_var is not None and spec.var[self.mask_var].dtype != bool:
            dtype = spec.var[self.mask_var].dtype
            raise PlanError(f"PCA: var[{self.mask_var!r}] is {dtype}; a mask of genes is bool")
        if self._holds(spec) in (Holds.COUNTS, Holds.UNKNOWN) and self._scaling(spec) is None:
            name = "X" if self.layer is None else f"layer {self.layer!r}"
            raise PlanError(
                f"PCA: {name} holds {self._holds(spec)} here, whose components are those of the largest genes; put "
                "NormalizeTotal(1e4), Log1p() and Scale(max_value=10, store=False) before it"
            )
        if spec.scaling is not None and self.layer is None and spec.scaling.holds != spec.holds:
            raise PlanError(
                "PCA: X was changed after Scale(store=False), which is void then; Scale comes right before PCA"
            )
        genes = self._genes(spec)
        _refuse_many(int(genes.sum()), self.mask_var)
        most = max(2, min(int(genes.sum()) or spec.n_vars, spec.n_obs))
        k = min(DEFAULT_COMPS, most - 1) if self.n_comps is None else self.n_comps
        self._check(k, spec.n_vars, spec.n_obs)
        nothing = Components(np.zeros((int(genes.sum()), k)), np.zeros(k), np.zeros(k), np.zeros(k))
        return self._scores(Values(genes, self.layer), nothing).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Sum up products, and find their components."""
        genes = self._genes(spec)
        n_vars, scaling = int(genes.sum()), self._scaling(spec)
        if not n_vars:
            raise InputError(f"PCA: var[{self.mask_var!r}] marks no gene; mark some, or take all with mask_var=None")
        _refuse_many(n_vars, self.mask_var)
        if self.n_comps is not None:
            self._check(self.n_comps, n_vars, spec.n_obs)
        values = Values(genes, self.layer, scaling)
        if not self.bounded:
            bound: Floats = yield LargestValues(values)
        elif scaling is not None:
            bound = _bound(scaling.of(genes), spec.n_obs)
        else:
            bound = np.full(n_vars, LARGEST_LOG)
        sums = GramSums(values, bound, spec.n_obs)
        found: Products = yield sums
        most = min(n_vars, found.n) - 1
        k = min(DEFAULT_COMPS, most) if self.n_comps is None else self.n_comps
        self._check(k, n_vars, found.n)
        return self._scores(sums.values, components(sums, found, k, self.zero_center))

    def _check(self, k: int, n_vars: int, n_obs: int) -> None:
        """Raise unless there are more genes and cells than components."""
        if not 0 < k < min(n_vars, n_obs):
            raise InputError(
                f"PCA(n_comps={self.n_comps}): {n_obs:,} cells and {n_vars:,} genes have at most "
                f"{max(0, min(n_vars, n_obs) - 1):,} components; ask for fewer, or n_comps=None"
            )

    def _genes(self, spec: StreamSpec) -> npt.NDArray[np.bool_]:
        """Mark the genes that take part."""
        if self.mask_var is None:
            return np.ones(spec.n_vars, dtype=bool)
        return np.asarray(spec.var[self.mask_var], dtype=bool)

    def _scaling(self, spec: StreamSpec) -> Scaling | None:
        return spec.scaling if self.layer is None else None

    def _holds(self, spec: StreamSpec) -> Holds:
        return spec.holds if self.layer is None else spec.layers.get(self.layer, Holds.UNKNOWN)

    def _scores(self, values: Values, of: Components) -> Scores:
        params = {
            "zero_center": self.zero_center,
            "use_highly_variable": self.mask_var == "highly_variable",
            "mask_var": self.mask_var,
        }
        if self.layer is not None:
            params["layer"] = self.layer
        entry = {"params": params, "variance": of.variance, "variance_ratio": of.variance_ratio}
        names = ("X_pca", "PCs", "pca") if self.key_added is None else (self.key_added,) * 3
        return Scores(values, of.loadings, of.offset, names, entry)


@dataclass(frozen=True, eq=False)
class Scores(Transform):
    """Add the scores of cells on components.

    Parameters
    ----------
    values
        What of a chunk is multiplied.
    loadings
        Shape (genes of `values`, components).
    offset
        What is taken from the products, shape (components,).
    names
        Of the entries in `obsm`, `varm` and `uns`; no name: no such entry.
    entry
        What `uns` is to say.
    """

    values: Values
    loadings: Floats
    offset: Floats
    names: tuple[str, str | None, str | None]
    entry: Any = None
    keeps_values = True

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with their scores."""
        rows = self.values.rows(chunk)
        out = np.empty((chunk.n_obs, len(self.offset)), dtype=np.float32)
        loadings = self.loadings / self.values.weights[:, None]
        kernels.project(rows.indptr, rows.indices, rows.data, loadings, self.offset, out)
        return chunk.with_obsm(**{self.names[0]: out})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with scores, loadings and variances."""
        obsm, varm, uns = self.names
        spec = spec.with_obsm(**{obsm: np.empty((0, len(self.offset)), dtype=np.float32)})
        if varm is not None:
            loadings = np.zeros((spec.n_vars, len(self.offset)))
            loadings[self.values.genes] = self.loadings
            spec = spec.with_varm(**{varm: loadings})
        return spec if uns is None else spec.with_uns(**{uns: self.entry})


def _bound(scaling: Scaling, n_obs: int) -> Floats:
    """Return what no scaled value less what zero becomes is above, shape (genes,)."""
    if not isinf(scaling.most):
        return np.full(len(scaling.mean), 2.0 * scaling.most)
    # nothing is further than this from the mean of so many numbers, in standard deviations
    return np.asarray(sqrt(n_obs) + np.abs(scaling.mean / scaling.std) + 1.0)


def _refuse_many(genes: int, mask_var: str | None) -> None:
    if genes > MOST_GENES:
        remedy = (
            "choose genes with HighlyVariableGenes and leave mask_var as it is" if mask_var is None else "mark fewer"
        )
        raise PlanError(
            f"PCA: {genes:,} genes; the products of all pairs of more than {MOST_GENES:,} take "
            f"{8 * genes**2 / 1e9:.1f} GB and their components long; {remedy}"
        )
