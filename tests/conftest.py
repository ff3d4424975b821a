"""What many tests need: the shared data, and Censuses built once per run."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published data and expected results; CI must have it, a user need not."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {SHARED}")
        pytest.skip(f"needs the published data in {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="session")
def demo_census(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small simulated Census of `headrace demo`."""
    from headrace.testing import build_demo_census

    return build_demo_census(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def real_census(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Census of published studies: ten of them, human and mouse, full-length and UMI."""
    out = tmp_path_factory.mktemp("real")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("numba"))}
    subprocess.run(
        [sys.executable, str(shared / "tools" / "make_real_census.py"), str(out)],
        check=True,
        env=environment,
        capture_output=True,
    )
    return out / "soma"
