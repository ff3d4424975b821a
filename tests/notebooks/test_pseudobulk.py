"""The pseudobulk notebook runs from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks/pseudobulk.ipynb"


def test_it_runs() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    space: dict[str, Any] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), space)  # as a kernel would
    samples = space["samples"]
    assert samples.n_obs > 10
    assert np.isfinite(space["places"]).all()
    assert np.exp(np.log(samples.obs["norm_factors"]).sum()) == pytest.approx(1, rel=1e-12)
