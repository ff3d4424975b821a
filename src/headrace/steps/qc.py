"""Quality control measures of cells and genes; they need no pass of their own."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk, Holds, StreamSpec
from ..contract import written
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Fit, Step, Transform
from ..stats import kernels
from ..stats.bygroup import SumsByGroup
from ..stats.cells import library_sizes
from ..stats.combined import Combined
from ..stats.groups import Groups
from ..stats.moments import GeneCells
from ..stats.representation import Representation
from ..support.given import check_fields
from .annotate import AnnotateGenes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class QCMetrics(Sequence[Any]):
    """Describe cells and genes, with the columns of `scanpy.pp.calculate_qc_metrics`.

    Two steps in one: what is said of cells goes into `obs` as they pass, what is said of genes into
    `var`, over the cells that come this far. No pass over the data of its own.

    Parameters
    ----------
    qc_vars
        Sets of genes whose share of each cell is wanted. A mapping from a name to a prefix of
        `feature_name` (or several), e.g. `{"mt": "MT-"}`, which also adds the bool column `var["mt"]`; or
        names of bool columns of `var`.
    percent_top
        How many of a cell's highest genes to sum up; each at most the number of genes. Empty for none.
    log1p
        Whether to add the logarithms of 1 + what is counted.
    layer
        A saved layer to use instead of `X`.
    expr_type, var_type
        What values and genes are called in the names of columns.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> genes = pd.DataFrame({"feature_name": ["MT-ND1", "ACTB"]}, index=["g", "h"])
    >>> source = ArraySource(np.array([[1, 3], [0, 2]]), pd.DataFrame(index=["a", "b"]), genes)
    >>> adata = hr.Plan(source, [hr.QCMetrics({"mt": "MT-"}, percent_top=())]).to_anndata()
    >>> adata.obs["pct_counts_mt"].tolist(), adata.var["n_cells_by_counts"].tolist()
    ([25.0, 0.0], [1, 2])
    """

    qc_vars: Mapping[str, str | Sequence[str]] | Collection[str] = ()
    percent_top: Sequence[int] = (50, 100, 200, 500)
    log1p: bool = True
    layer: str | None = None
    expr_type: str = "counts"
    var_type: str = "genes"

    def __post_init__(self) -> None:
        if isinstance(self.qc_vars, str):
            object.__setattr__(self, "qc_vars", (self.qc_vars,))
        if self.percent_top is None:
            object.__setattr__(self, "percent_top", ())
        check_fields(self)
        object.__setattr__(self, "percent_top", tuple(sorted(set(self.percent_top))))
        if any(n < 1 for n in self.percent_top):
            raise InputError(f"QCMetrics(percent_top={self.percent_top!r}): numbers of genes, at least 1")

    def __len__(self) -> int:
        return 2

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return the step about cells, or the one about genes."""
        names = {name: getattr(self, name) for name in ("log1p", "layer", "expr_type")}
        return (QCCells(self.qc_vars, self.percent_top, var_type=self.var_type, **names), QCGenes(**names))[index]


def _check_layer(step: str, layer: str | None, spec: StreamSpec) -> None:
    if layer is not None and layer not in spec.layers:
        raise PlanError(f"{step}: no layer {layer!r} was saved; {nearest(layer, spec.layers)}")
    if (spec.holds if layer is None else spec.layers[layer]) == Holds.STANDARDIZED:
        raise PlanError(f"{step}: {layer or 'X'} is standardized here, so totals mean nothing; put it before that step")


@dataclass(frozen=True)
class QCCells(Fit):
    """The part of `QCMetrics` about cells."""

    qc_vars: Mapping[str, str | Sequence[str]] | Collection[str] = ()
    percent_top: Sequence[int] = ()
    log1p: bool = True
    layer: str | None = None
    expr_type: str = "counts"
    var_type: str = "genes"
    passes = 0
    keeps_values = True
    label = "QCMetrics"

    @property
    def reads_var(self) -> bool:
        """True if the genes are those that a column of `var` marks, which an earlier step may have written."""
        return bool(self.qc_vars) and not isinstance(self.qc_vars, Mapping)

    def describe(self) -> str:
        """Return the step that both parts are of."""
        return written(QCMetrics(**vars(self)))

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if a set of genes is unknown, or there are fewer genes than `percent_top` asks for."""
        _check_layer("QCMetrics", self.layer, spec)
        return self._resolve(spec).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Look the genes up; no data is read."""
        return self._resolve(spec)
        yield  # a generator that needs no data

    def _resolve(self, spec: StreamSpec) -> MeasureCells:
        if self.percent_top and self.percent_top[-1] > spec.n_vars:
            raise InputError(
                f"QCMetrics(percent_top={tuple(self.percent_top)}): there are only {spec.n_vars} genes here; "
                "leave the larger numbers out"
            )
        sets = {name: self._genes(name, spec) for name in self.qc_vars}
        return MeasureCells(self, sets)

    def _genes(self, name: str, spec: StreamSpec) -> npt.NDArray[np.bool_]:
        if not isinstance(self.qc_vars, Mapping):
            if name not in spec.var:
                raise PlanError(f"QCMetrics: var has no column {name!r}; {nearest(name, spec.var)}")
            if spec.var[name].dtype != bool:
                raise PlanError(f"QCMetrics: var[{name!r}] is {spec.var[name].dtype}, not bool")
            return np.asarray(spec.var[name], dtype=bool)
        given = self.qc_vars[name]
        prefixes = (given,) if isinstance(given, str) else tuple(given)
        names = (spec.var["feature_name"] if "feature_name" in spec.var else spec.var.index.to_series()).astype(str)
        found = np.asarray(names.str.startswith(prefixes), dtype=bool)
        if not found.any():
            other = names.str.upper().str.startswith(tuple(p.upper() for p in prefixes)).to_numpy(bool)
            hint = f"; did you mean {names[other].iloc[0][: len(prefixes[0])]!r}?" if other.any() else ""
            raise PlanError(f"QCMetrics: no gene's name begins with {' or '.join(map(repr, prefixes))}{hint}")
        return found


@dataclass(frozen=True, eq=False)
class MeasureCells(Transform):
    """Add columns about every cell to `obs`, and mark the sets of genes in `var`."""

    about: QCCells
    sets: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells, described."""
        about = self.about
        X = Representation(about.layer).csr(chunk)
        kind, genes = about.expr_type, about.var_type
        n_genes, totals = np.diff(X.indptr).astype(np.int32), library_sizes(X)
        columns: dict[str, Any] = {f"n_{genes}_by_{kind}": n_genes}
        if about.log1p:
            columns[f"log1p_n_{genes}_by_{kind}"] = log1p(n_genes)
        columns |= self._total(f"total_{kind}", totals)
        if about.percent_top:
            tops = np.array(about.percent_top, dtype=np.int64)
            sums = np.empty((X.shape[0], len(tops)))
            kernels.top_sums(X.indptr, X.data, tops, sums)
            for i, n in enumerate(tops):
                columns[f"pct_{kind}_in_top_{n}_{genes}"] = percent(sums[:, i], totals)
        for name, chosen in self.sets.items():
            part = np.empty(X.shape[0])
            kernels.row_sums_of(X.indptr, X.indices, X.data, chosen, part)
            columns |= self._total(f"total_{kind}_{name}", part)
            columns[f"pct_{kind}_{name}"] = percent(part, totals).astype(np.float32)
        return chunk.with_obs(**columns)

    def _total(self, name: str, totals: Floats) -> dict[str, Any]:
        columns = {name: totals.astype(np.float32)}
        if self.about.log1p:
            columns[f"log1p_{name}"] = log1p(totals).astype(np.float32)
        return columns

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream of described cells."""
        made = self._describe(spec.obs, spec.n_vars)
        marked = self.sets if isinstance(self.about.qc_vars, Mapping) else {}
        dtypes = {
            name: made[name].dtype for name in made if name not in spec.obs or made[name].dtype != spec.obs[name].dtype
        }
        return spec.with_obs(**dtypes).with_var(**marked)

    @property
    def adds_obs(self) -> list[str]:
        """Names of the columns."""
        return list(self._describe(pd.DataFrame(), max((len(genes) for genes in self.sets.values()), default=0)))

    def _describe(self, obs: pd.DataFrame, n_vars: int) -> pd.DataFrame:
        """Return `obs`, which has no rows, with the columns."""
        about = QCCells(**{**vars(self.about), "layer": None})
        return type(self)(about, self.sets)(Chunk(np.zeros((0, n_vars), np.float32), obs)).obs


@dataclass(frozen=True)
class QCGenes(Fit):
    """The part of `QCMetrics` about genes."""

    log1p: bool = True
    layer: str | None = None
    expr_type: str = "counts"
    annotates = True
    by_gene = True
    label = "QCMetrics"

    def belongs_to(self, before: Step) -> bool:
        """Whether the part about cells comes before it."""
        return isinstance(before, QCCells)

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics."""
        return SumsByGroup.memory(1, spec.n_vars, whole=False) + 8 * spec.n_vars

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if totals have no meaning here."""
        _check_layer("QCMetrics", self.layer, spec)
        return spec

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Sum up every gene; return the annotation."""
        rep = Representation(self.layer)
        whole = (spec.holds if self.layer is None else spec.layers[self.layer]) == Holds.COUNTS
        whole &= spec.fractional is False
        n_cells, moments = yield Combined(
            GeneCells(spec.n_vars, rep), SumsByGroup(Groups(), spec.n_vars, rep, whole=whole)
        )
        of, kind = moments.all(), self.expr_type
        columns: dict[str, Any] = {f"n_cells_by_{kind}": n_cells, f"mean_{kind}": of.mean}
        if self.log1p:
            columns[f"log1p_mean_{kind}"] = log1p(of.mean)
        columns[f"pct_dropout_by_{kind}"] = (1 - n_cells / max(of.n, 1)) * 100
        columns[f"total_{kind}"] = of.total.astype(np.float32)
        if self.log1p:
            columns[f"log1p_total_{kind}"] = log1p(of.total).astype(np.float32)
        return AnnotateGenes(columns)


def percent(part: Floats, whole: Floats) -> Floats:
    """Return 100 * part / whole, and one and the same NaN where there is nothing (processors have several)."""
    return np.where(whole != 0, part / np.where(whole != 0, whole, 1.0) * 100, np.nan)


def log1p(values: npt.NDArray[Any]) -> Floats:
    """Return log(1 + x) in float64, each by the same operations wherever it stands."""
    out = np.empty(len(values))
    kernels.log1p(np.asarray(values), 1.0, out)
    return out
