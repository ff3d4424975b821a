"""Columns of `var` that a fit has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..chunk import Chunk, StreamSpec
from ..protocols import Transform


@dataclass(frozen=True, eq=False)
class AnnotateGenes(Transform):
    """Add columns to `var` and entries to `uns`; the cells stay as they are."""

    columns: Mapping[str, Any]
    uns: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the same cells."""
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the annotated stream."""
        return spec.with_var(**self.columns).with_uns(**self.uns)
