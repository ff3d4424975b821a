"""Every notebook runs from top to bottom, in a kernel of its own; `make docs` shows what came of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jupyter's own libraries
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False)
    client.execute(cwd=str(FOLDER))
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output["output_type"] == "error"]
    if path.stem == "full_length":
        assert any("image/png" in output.get("data", {}) for output in shown), "the UMAP is drawn"
    if find_spec("jupyter_cache"):
        keep_for_the_documentation(path, notebook)


def keep_for_the_documentation(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Put it where docs/conf.py looks before it runs a notebook: `nb_execution_cache_path`."""
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    cache = get_cache(ROOT / "docs" / "_build" / ".notebooks")
    cache.cache_notebook_bundle(CacheBundleIn(notebook, str(path)), check_validity=False, overwrite=True)
    assert cache.match_cache_notebook(nbformat.read(path, as_version=4)), "the same cells"
