"""Experiments as tiledbsoma.io writes them."""

from __future__ import annotations

from typing import Any

import pytest


def from_anndata(uri: str, adata: Any, *args: Any, **options: Any) -> None:
    """Write cells with `tiledbsoma.io.from_anndata`, where it knows this version of anndata."""
    import tiledbsoma.io

    if None in list(adata.layers):  # X among them, from anndata 0.13 on: it takes None for a name
        pytest.skip("this tiledbsoma.io cannot write an AnnData of this anndata")
    tiledbsoma.io.from_anndata(uri, adata, *args, **options)
