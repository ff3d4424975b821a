"""Both writers of the shared tool: one leaves a fragment as it was written, the other as the Census's builder does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.sources.tiles import open_fragments
from tests.sources.tiles.test_equal import compare


@pytest.fixture(scope="module", params=["global", "consolidate"])
def census(
    request: pytest.FixtureRequest, shared_tool: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param)
    datasets = [
        {"n_cells": 4500, "genes": 0.9, "nnz_per_cell": 150},
        {"n_cells": 700, "assay": "EFO:0008931", "nnz_per_cell": 400},
    ]
    spec = out / "spec.json"
    spec.write_text(json.dumps({"n_genes": 2500, "organisms": {"homo_sapiens": datasets}}))
    several = ["--rows-per-chunk", "2048"]  # several fragments, so that there is what to consolidate
    shared_tool("make_mini_census.py", out / "made", "--spec", spec, *several, "--writer", request.param)
    return request.param, out / "made" / "soma"


@pytest.mark.parametrize("layer", ["raw", "normalized"])
def test_equal_to_tiledb(census: tuple[str, Path], layer: str) -> None:
    writer, root = census
    for experiment in sorted((root / "census_data").iterdir()):
        X = experiment / "ms" / "RNA" / "X" / layer
        if X.is_dir():
            assert bool([*X.glob("__fragments/*/t.tdb")]) == (writer == "consolidate")
            assert open_fragments(str(X), {})
            compare(experiment, layer)
