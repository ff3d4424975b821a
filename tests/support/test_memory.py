"""The budget is kept, or refused before anything is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import headrace as hr
from headrace.support.memory import parse_bytes
from headrace.testing import SimulatedDataset, build_census
from tests.conftest import LIVER

PEAK = """
import json, re, sys, headrace as hr
plan = hr.Plan(hr.open_census(sys.argv[1]).query("homo_sapiens", primary_only=False), hr.recipes.full_length(min_genes=50))
predicted = plan.explain(sys.argv[2]).peak_memory
plan.write_h5ad(sys.argv[3], memory=sys.argv[2])
peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())
print(json.dumps([predicted, int(peak[1]) * 1024]))
"""


@pytest.fixture(scope="module")
def larger_census(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve million non-zeros: in memory at once, with its layer, they would take 300 MB."""
    parts = [SimulatedDataset(20_000, nnz_per_cell=600, title="UMI"), SimulatedDataset(300, "EFO:0008931")]
    return build_census(tmp_path_factory.mktemp("larger") / "c", {"homo_sapiens": parts}, layers=("raw",))


@pytest.mark.parametrize("memory", ["750MB", "1GB"])
def test_the_budget_is_kept(memory: str, larger_census: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(larger_census), memory, str(tmp_path / "out.h5ad")],
        capture_output=True,
        text=True,
        check=True,
    )
    predicted, peak = json.loads(done.stdout)
    assert peak < parse_bytes(memory)
    assert predicted <= parse_bytes(memory)


def test_a_budget_too_small_is_refused_with_the_least(demo_census: Path, tmp_path: Path) -> None:
    plan = hr.Plan(hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER), hr.recipes.full_length())
    with pytest.raises(hr.MemoryBudgetError, match=r"cannot run in 100 MB: it needs at least (\d+) MB") as refused:
        plan.write_h5ad(tmp_path / "out.h5ad", memory="100MB")
    least = int(str(refused.value).split("at least ")[1].split(" MB")[0])
    plan.explain(f"{least + 1}MB")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "0", "1XB"])
def test_no_amount_of_memory(text: str) -> None:
    with pytest.raises(hr.InputError, match="is no amount of memory; write e.g. '1GB'"):
        parse_bytes(text)
