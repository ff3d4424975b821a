"""What many tests need: the shared data, and Censuses built once per run, whichever process needs them first."""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples on every machine, however slow it is: a test is red because of a change, or not at all
settings.register_profile("headrace", deadline=None, derandomize=True)
settings.load_profile("headrace")

# what tests fetch is not kept where the user's is; those that try the cache name a folder of their own
os.environ["HEADRACE_CACHE"] = "off"

SHARED = Path(__file__).resolve().parents[2] / "shared"

LIVER = "4546e757-34d0-4d17-be06-538318925fcd"

COMPILED = Path(__file__).resolve().parents[1] / ".pytest_cache" / "numba"

SLOWEST = ("faults/", "remote/", "notebooks/", "against/", "cli/", "sinks/", "support/", "engine/", "report/")
"""Begun first, so that at the end no process waits for another that has a minute left."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; within a file nothing is moved."""

    def place(item: pytest.Item) -> int:
        folder = item.nodeid.removeprefix("tests/")
        return next((number for number, one in enumerate(SLOWEST) if folder.startswith(one)), len(SLOWEST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Compile scanpy's loops without threads: the same loops, in half the time.

    They are kept in a folder of the tests: numba does not tell both forms apart, and whoever uses scanpy in this
    environment shall have its own.
    """
    if "scanpy" not in sys.modules:
        return
    from numba import njit
    from numba.core import config

    scanpys = [module for name, module in sys.modules.items() if name.startswith("scanpy.")]
    loops = [one for module in scanpys for one in vars(module).values() if inspect.isfunction(one)]
    before, config.CACHE_DIR = config.CACHE_DIR, str(COMPILED)  # type: ignore[attr-defined] # numba makes them as it loads
    try:
        for loop in loops:
            for forms in inspect.getclosurevars(loop).nonlocals.values() if hasattr(loop, "__wrapped__") else ():
                if isinstance(forms, dict) and set(forms) == {True, False}:  # with threads, or without
                    forms[True] = njit(loop.__wrapped__, cache=True)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published data and expected results; CI must have it, a user need not."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {SHARED}")
        pytest.skip(f"needs the published data in {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="session")
def of_all_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of the tests share."""
    here = tmp_path_factory.getbasetemp()
    return here.parent if "PYTEST_XDIST_WORKER" in os.environ else here


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    fcntl = pytest.importorskip("fcntl")
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built_once(folder: Path, name: str, build: Callable[[Path], object]) -> Path:
    """Return folder/name as the first process that asks has built it; the others wait."""
    done = folder / f"{name}.done"
    with locked(folder / f"{name}.lock"):
        if not done.exists():
            build(folder / name)
            done.touch()
    return folder / name


@pytest.fixture(scope="session")
def demo_census(of_all_processes: Path) -> Path:
    """The small simulated Census of `headrace demo`; nobody writes to it."""
    from headrace.testing import build_demo_census

    return built_once(of_all_processes, "demo-census", build_demo_census)


@pytest.fixture(scope="session")
def shared_tool(shared: Path, of_all_processes: Path) -> Callable[..., None]:
    """Run a tool of the shared folder; what numba compiles for it is kept for the next, and not in that folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(of_all_processes / "numba-of-tools")}
    if importlib.util.find_spec("tiledbsoma._managed_query") is None:  # `make test-lowest`
        pytest.skip("the tools that make Censuses need tiledbsoma 2")

    def run(name: str, *arguments: str | Path) -> None:
        command = [sys.executable, shared / "tools" / name, *arguments]
        with locked(of_all_processes / "tools.lock"):  # two that compile at once spoil numba's cache
            subprocess.run(command, check=True, env=environment, capture_output=True)

    return run


@pytest.fixture(scope="session")
def real_census(shared_tool: Callable[..., None], of_all_processes: Path) -> Path:
    """A Census of published studies: ten of them, human and mouse, full-length and UMI."""

    def build(out: Path) -> None:
        shared_tool("make_real_census.py", out)

    return built_once(of_all_processes, "real-census", build) / "soma"
