"""Compiled code where it cannot be kept, or where what was kept is broken: the run goes on, with one warning."""

from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import config

from headrace.stats.kernels import compiled as ours

LOOPS = """
import numpy as np

from headrace.stats.kernels.compiled import compiled

@compiled
def twice(values):
    n = values[0]
    for value in values[1:]:
        n += value
    return n + n

if __name__ == "__main__":
    print(twice(np.arange(10)), hasattr(twice, "signatures"))
"""


@pytest.fixture
def loops(tmp_path: Path) -> Path:
    path = tmp_path / "package" / "loops.py"
    path.parent.mkdir()
    path.write_text(LOOPS)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is not there yet, named by NUMBA_CACHE_DIR."""
    kept_in(tmp_path / "not" / "there", monkeypatch)
    yield tmp_path / "not" / "there"
    monkeypatch.undo()
    config.reload_config()  # type: ignore[no-untyped-call]


def kept_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    config.reload_config()  # type: ignore[no-untyped-call]


def run(loops: Path) -> tuple[int, list[str]]:
    """Load the loop as a new process would, and call it; return how much was found, and what was said."""
    found = importlib.util.spec_from_file_location("loops", loops)
    assert found is not None
    assert found.loader is not None
    module: Any = importlib.util.module_from_spec(found)
    ours._told.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found.loader.exec_module(module)
        assert module.twice(np.arange(10)) == 90
        assert module.twice(np.arange(4.0)) == 12
    assert {one.category.__name__ for one in told} <= {"CodeCacheWarning"}
    return sum(module.twice.stats.cache_hits.values()), [str(one.message) for one in told]


def nowhere(loops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder beside the package, and no home: what a folder would be is a file, which stops root too."""
    (loops.parent / "__pycache__").write_text("")
    monkeypatch.setenv("HOME", str(loops / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(loops / "cache"))


def test_no_folder_can_be_written(loops: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(loops, monkeypatch)
    for named in ("", str(loops / "inside-a-file")):
        kept_in(named, monkeypatch)  # type: ignore[arg-type] # empty is as good as not set
        hits, (told,) = run(loops)
        assert hits == 0
        assert "set NUMBA_CACHE_DIR to" in told
        assert (f"NUMBA_CACHE_DIR={named}, " in told) == bool(named)


def test_a_folder_that_was_named_and_cannot_be_written(
    loops: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in(loops / "inside-a-file", monkeypatch)
    found, (told,) = run(loops)
    assert found == 0
    assert f"NUMBA_CACHE_DIR={loops}/inside-a-file cannot be written" in told
    assert str(loops.parent / "__pycache__") in told
    assert run(loops) == (2, []), "what is found need not be kept"


def test_a_folder_that_is_named_and_not_there_is_made(loops: Path, cache: Path) -> None:
    assert run(loops) == (0, [])
    assert run(loops) == (2, [])


def test_a_full_disk(loops: Path, cache: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        _, told = run(loops)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(told) == 1
    assert told[0].startswith("compiled code cannot be kept")
    assert "File too large" in told[0]
    assert "NUMBA_CACHE_DIR" in told[0]
    assert run(loops) == (0, [])
    assert run(loops) == (2, [])


def test_a_folder_that_can_only_be_read(loops: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an image of a container that was built by root and is run by somebody else."""
    from numba.core.caching import _CacheLocator

    def refuse(self: object) -> None:
        raise OSError("Read-only file system")

    assert run(loops) == (0, [])
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    config.reload_config()  # type: ignore[no-untyped-call]
    assert run(loops) == (0, []), "beside the package"
    monkeypatch.setattr(_CacheLocator, "ensure_cache_path", refuse)
    assert run(loops) == (2, [])
    kept_in(cache, monkeypatch)
    assert run(loops) == (2, [])


def flip(stored: bytes) -> bytes:
    middle = len(stored) // 2
    return stored[:middle] + bytes([stored[middle] ^ 4]) + stored[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda stored: stored[: len(stored) // 2],
    "cut by one": lambda stored: stored[:-1],
    "empty": lambda stored: b"",
    "noise": lambda stored: bytes(range(256)) * 9,
    "flipped": flip,
    "another pickle": lambda stored: b"\x80\x04K\x07.",
    "another version": lambda stored: stored.replace(b"0.", b"9.", 1),
}


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
def test_what_is_kept_is_broken(kind: str, loops: Path, cache: Path) -> None:
    """Each kind of damage is a miss, and mended."""
    assert run(loops) == (0, [])
    for name, damage in DAMAGE.items():
        files = list(cache.rglob(kind))
        assert files
        for path in files:
            path.write_bytes(damage(path.read_bytes()))
        hits, told = run(loops)
        assert hits < 2 or (kind == "*.nbi" and name == "cut by one"), name  # of an index, what can be read may count
        assert told == []
        assert run(loops) == (2, []), name


def test_code_of_other_types_is_not_taken(loops: Path, cache: Path) -> None:
    """Two processes that compile at once give one name to two pieces of code: numba would run the wrong one."""
    run(loops)
    first, second = sorted(cache.rglob("loops.twice*.nbc"))
    code = first.read_bytes(), second.read_bytes()
    first.write_bytes(code[1])
    second.write_bytes(code[0])
    assert run(loops) == (0, [])


def test_loops_are_compiled_even_where_numba_is_told_not_to(loops: Path) -> None:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, loops], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "90 True\n"


def test_kept_code_is_loaded_without_the_compiler(loops: Path, tmp_path: Path) -> None:
    """What numba compiles with takes half a second to load, and linear algebra with it."""
    loops.write_text(LOOPS + '    import sys\n    print("numba.np.linalg" in sys.modules)\n')
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    said = [subprocess.run([sys.executable, loops], env=environment, capture_output=True, text=True) for _ in range(2)]
    assert [one.stdout.split() for one in said] == [["90", "True", "True"], ["90", "True", "False"]]


CALLS = """
from headrace.stats.kernels.compiled import compiled

@compiled
def larger(values, least):
    return values.size + least

@compiled
def three(values, least):
    return larger(values, 1) + larger(values, 20) + larger(values, least)
"""


def test_a_number_that_is_written_out_in_a_call_is_not_compiled_for(tmp_path: Path) -> None:
    path = tmp_path / "calls.py"
    path.write_text(CALLS)
    spec = importlib.util.spec_from_file_location("calls", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.three(np.zeros(4), 300) == 3 * 4 + 321
    assert len(module.larger.signatures) == 1
