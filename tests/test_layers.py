"""The picture of the rooms in CONTRIBUTING.md is the code: every arrow is an import, every import is an arrow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import headrace

ROOT = Path(headrace.__file__).parent
CONTRIBUTING = ROOT.parents[1] / "CONTRIBUTING.md"

ONLY = {
    "numba": {"stats/kernels/compiled.py", "sources/tiles/decode.py"},
    "llvmlite": {"sources/tiles/decode.py"},
    "obstore": {"sources/tiles/store.py"},
    "zstandard": {"sources/tiles/zstd.py"},
    "tiledbsoma": {"sources/soma", "testing"},
    "cellxgene_census": {"sources/soma"},
    "h5py": {"sinks/h5ad", "sources/h5ad", "sources/tenx", "sources/foreign.py", "support/heaps.py"},
    "click": {"cli"},
    "cloudpickle": {"engine/states.py"},
    "distributed": {"engine/cluster.py", "engine/cluster_worker.py"},
    "tenacity": {"support/retry.py"},
    "tqdm": {"cli"},
    "skmisc": {"stats"},
    "scanpy": set(),
    "lazy_loader": {"__init__.py"},
    "platformdirs": {"support/cache.py"},
}
"""Which library is known where."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports, as a path below the package; of a package, the package."""
    here = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = Path(*here[: len(here) - node.level + 1], *(node.module or "").split("."))
            for alias in node.names:
                inner = base / alias.name
                found = inner if is_ours(inner) else base
                yield found.as_posix()


def is_ours(path: Path) -> bool:
    return (ROOT / path).is_dir() or (ROOT / path).with_suffix(".py").is_file()


def libraries(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def room(module: str) -> str:
    """The folder that a module is in; the four modules at the front are one room, recipes another."""
    path = Path(module)
    if (ROOT / path).is_dir() and path.parts:
        return path.as_posix()
    if len(path.parts) > 1:
        return path.parent.as_posix()
    return {"recipes": "recipes", "__init__": "public", ".": "public", "__main__": "cli"}.get(path.as_posix(), "words")


def arrows_of_the_code() -> set[tuple[str, str]]:
    found = set()
    for path in modules():
        mine = room(path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__"))
        found |= {(mine, room(name)) for name in imports(path)}
    return {(a, b) for a, b in found if a != b and "public" not in (a, b)}


def picture() -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Return the rooms that CONTRIBUTING draws, by the names of their boxes, and its arrows between rooms."""
    if not CONTRIBUTING.is_file():
        pytest.skip(f"needs {CONTRIBUTING.name}, which an installed package has not")
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    rooms = dict(re.findall(r'^\s*(\w+)\["(?:<b>)?([\w/]+)(?:</b>)?', drawn, re.MULTILINE))
    arrows: set[tuple[str, str]] = set()
    for line in drawn.splitlines():
        if "-->" in line:
            ends = [[one.strip() for one in part.split("&")] for part in line.split("-->")]
            for left, right in pairwise(ends):
                arrows |= {(rooms[a], rooms[b]) for a in left for b in right}
    return rooms, arrows


def test_the_picture_has_every_room() -> None:
    rooms, _ = picture()
    there = {room(path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__")) for path in modules()}
    assert set(rooms.values()) == there - {"public"}


def test_every_import_is_an_arrow_and_every_arrow_an_import() -> None:
    """All but the arrows to the words, which every room may use."""
    _, drawn = picture()
    drawn = {(a, b) for a, b in drawn if b != "words"}
    code = {(a, b) for a, b in arrows_of_the_code() if b != "words"}
    assert code - drawn == set(), "imports that the picture does not show"
    assert drawn - code == set(), "arrows that no import needs"


def test_no_room_and_no_module_imports_itself_by_a_detour() -> None:
    by_room: dict[str, set[str]] = {}
    for a, b in arrows_of_the_code():
        by_room.setdefault(a, set()).add(b)
    by_module = {
        path.relative_to(ROOT).with_suffix("").as_posix(): {name for name in imports(path) if name != "."}
        for path in modules()
        if path.name != "__init__.py"
    }
    for graph in (by_room, by_module):
        done: set[str] = set()

        def visit(one: str, above: tuple[str, ...], graph: dict[str, set[str]] = graph, done: set[str] = done) -> None:
            assert one not in above, " -> ".join([*above[above.index(one) :], one])
            if one not in done:
                for below in sorted(graph.get(one, ())):
                    visit(below, (*above, one))
                done.add(one)

        for one in sorted(graph):
            visit(one, ())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_where_they_belong(path: Path) -> None:
    inside = path.relative_to(ROOT).as_posix()
    for name in libraries(path):
        places = ONLY.get(name)
        assert places is None or any(inside == place or inside.startswith(f"{place}/") for place in places), (
            f"{inside} imports {name}"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    """`import headrace` alone brings none of the slow libraries: the command line starts at once."""
    heavy = ("numpy", "pandas", "tiledbsoma", "numba", "anndata")
    code = f"import sys, headrace; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_in_the_stub_once_and_imports() -> None:
    stub = (ROOT / "__init__.pyi").read_text()
    names = re.findall(r"^from \.\S* import (\w+) as \1$", stub, re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(names) == set(headrace.__all__) == set(dir(headrace))
    for name in names:
        assert getattr(headrace, name) is not None
