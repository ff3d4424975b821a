"""Saving `X` as a layer, using a layer as `X`, dropping one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..chunk import Chunk, StreamSpec
from ..errors import PlanError, nearest
from ..protocols import Transform


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

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with the layer; nothing is copied."""
        return replace(chunk, layers={**chunk.layers, self.name: chunk.X})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the layer."""
        if not self.name or self.name == "X":
            raise PlanError(f"SaveLayer: {self.name!r} cannot be the name of a layer; use e.g. 'counts'")
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

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with the layer as `X`; nothing is copied."""
        return chunk.with_X(chunk.layers[self.name])

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the layer as `X`."""
        return replace(spec, holds=spec.layers[_known(self.name, spec, "UseLayer")], whole=False)


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

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells without the layer."""
        return replace(chunk, layers={name: X for name, X in chunk.layers.items() if name != self.name})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream without the layer."""
        _known(self.name, spec, "DropLayer")
        return replace(spec, layers={name: holds for name, holds in spec.layers.items() if name != self.name})


def _known(name: str, spec: StreamSpec, step: str) -> str:
    """Return the name, or raise if no such layer was saved."""
    if name not in spec.layers:
        raise PlanError(f"{step}: no layer {name!r} was saved before; {nearest(name, spec.layers)}")
    return name
