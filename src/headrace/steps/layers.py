"""Keeping what `X` was."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..chunk import Chunk, StreamSpec
from ..errors import PlanError


@dataclass(frozen=True)
class SaveLayer:
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
