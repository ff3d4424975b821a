"""Which module may import which: imports point down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import headrace

ROOT = Path(headrace.__file__).parent

LAYERS = [
    {"pages"},
    {"chunk", "errors", "events", "ahead"},
    {"staged", "packed", "scratch"},
    {"protocols"},
    {"held", "memory"},
    {"stats"},
    {"steps"},
    {"sources", "sinks", "executors", "spool"},  # strangers to one another
    {"schedule"},
    {"report"},
    {"run"},
    {"plan", "recipes", "verify"},
    {"__init__", "testing"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

ONLY = {
    "numba": {"stats/kernels/compiled.py"},
    "tiledbsoma": {"sources", "testing", "sinks/soma.py", "report.py"},
    "cellxgene_census": {"sources"},
    "h5py": {
        "sinks",
        "sources/h5ad.py",
        "sources/h5find.py",
        "sources/h5table.py",
        "sources/hdf5.py",
        "sources/preads.py",
        "verify.py",
    },
    "zarr": {"sinks", "sources/h5ad.py"},
    "click": {"cli"},
    "tqdm": {"cli"},
    "skmisc": {"stats"},
    "scanpy": set(),
    "dask": {"executors.py"},
}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module that a file imports: its first name within headrace, or a package; and whether it is ours."""
    found = []
    here = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.append(((node.module or "").split(".")[0], False))
                continue
            base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            found += (
                [(base[0], True)]
                if base
                else [(alias.name if alias.name in RANK else "__init__", True) for alias in node.names]
            )
        elif isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], False) for alias in node.names]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    mine = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if mine == "__init__":
        return  # names the public things, imports them when they are asked for
    for name, ours in imports(path):
        if ours and name != mine:
            assert RANK[name] < RANK[mine], f"{mine} imports {name}, which is not below it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_where_they_belong(path: Path) -> None:
    inside = path.relative_to(ROOT).as_posix()
    for name, ours in imports(path):
        if not ours and name in ONLY:
            places = ONLY[name]
            assert any(inside == place or inside.startswith(f"{place}/") for place in places), (
                f"{inside} imports {name}"
            )


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    """`import headrace` alone brings none of the slow libraries: the command line starts at once."""
    import subprocess
    import sys

    code = "import sys, headrace; print([m for m in ('numpy', 'pandas', 'tiledbsoma', 'numba', 'anndata') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
