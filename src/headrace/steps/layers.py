"""Saving `X` as a layer, using a layer as `X`, dropping one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..chunk import Chunk, StreamSpec
from ..errors import PlanError, nearest
from ..protocols import Transform
from ..support.given import check_fields


@dataclass(frozen=True)
class SaveLayer(Transform):
    """Keep `X` as it is now as a layer; later gene and cell filters apply to it too.

    Parameters
    ----------
    name
        Name of the layer, e.g. "counts".

    Examples
    --------
    >>> import headrace as hr
    >>> hr.SaveLayer("counts")
    SaveLayer(name='counts')
    """

    name: str
    by_gene = True
    reads_obs = ()
    keeps_values = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.name == "X" or any(part in ("", ".", "..") for part in self.name.split("/")):
            raise PlanError(f"SaveLayer: {self.name!r} cannot be the name of a layer; use e.g. 'counts'")

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with the layer; nothing is copied."""
        return chunk.replaced(layers={**chunk.layers, self.name: chunk.X})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the layer."""
        if self.name in spec.layers:
            raise PlanError(f"SaveLayer: a layer {self.name!r} was saved before; use another name")
        return replace(spec, layers={**spec.layers, self.name: spec.holds})


@dataclass(frozen=True)
class UseLayer(Transform):
    """Go on with a saved layer as `X`; the layer stays. What `X` was is gone, unless it was saved.

    Parameters
    ----------
    name
        Name of the layer, e.g. "counts".

    Examples
    --------
    >>> import headrace as hr
    >>> [hr.SaveLayer("counts"), hr.NormalizeTotal(1e6), hr.SaveLayer("cpm"), hr.UseLayer("counts")][-1]
    UseLayer(name='counts')
    """

    name: str

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with the layer as `X`; nothing is copied."""
        return chunk.with_X(chunk.layers[self.name])

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the layer as `X`."""
        return replace(spec, holds=spec.layers[_known(self.name, spec, "UseLayer")], whole=False, scaling=None)


@dataclass(frozen=True)
class DropLayer(Transform):
    """Forget a saved layer.

    Parameters
    ----------
    name
        Name of the layer.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.DropLayer("counts")
    DropLayer(name='counts')
    """

    name: str
    keeps_values = True

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells without the layer."""
        return chunk.replaced(layers={name: X for name, X in chunk.layers.items() if name != self.name})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream without the layer."""
        if _known(self.name, spec, "DropLayer") == spec.raw:
            raise PlanError(
                f"DropLayer: layer {self.name!r} is raw since SaveRaw({self.name!r}); leave one of them out"
            )
        return replace(spec, layers={name: holds for name, holds in spec.layers.items() if name != self.name})


@dataclass(frozen=True)
class SaveRaw(Transform):
    """Make a saved layer `raw.X` as well: what scanpy tests and plots by default, whatever becomes of `X`.

    `raw.var` is `var`: gene filters that follow apply to both. In an .h5ad file `raw/X` and `raw/var` are hard links of
    HDF5 to the layer and to var, and take no room; anndata reads them as matrices of their own, in memory.

    Parameters
    ----------
    name
        Name of the layer, e.g. "logcounts".

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[1, 0], [3, 2]]), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g", "h"]))
    >>> hr.Plan(source, [hr.SaveLayer("counts"), hr.SaveRaw("counts"), hr.Log1p()]).to_anndata().raw.X.toarray()
    array([[1., 0.],
           [3., 2.]], dtype=float32)
    """

    name: str
    by_gene = True
    reads_obs = ()
    keeps_values = True

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the same cells."""
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the layer as raw."""
        return replace(spec, raw=_known(self.name, spec, "SaveRaw"))


def _known(name: str, spec: StreamSpec, step: str) -> str:
    """Return the name, or raise if no such layer was saved."""
    if name not in spec.layers:
        raise PlanError(f"{step}: no layer {name!r} was saved before; {nearest(name, spec.layers)}")
    return name
