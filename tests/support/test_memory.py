"""The budget is kept, or refused before anything is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import psutil
import pytest

import headrace as hr
from headrace.chunk import Holds, StreamSpec
from headrace.protocols import Cost
from headrace.support import memory
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


@pytest.mark.parametrize("budget", ["750MB", "1GB"])
def test_the_budget_is_kept(budget: str, larger_census: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(larger_census), budget, str(tmp_path / "out.h5ad")],
        capture_output=True,
        text=True,
        check=True,
    )
    predicted, peak = json.loads(done.stdout)
    assert peak < parse_bytes(budget)
    assert predicted <= parse_bytes(budget)


def test_a_budget_too_small_is_refused_with_the_least(demo_census: Path, tmp_path: Path) -> None:
    plan = hr.Plan(hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER), hr.recipes.full_length())
    with pytest.raises(hr.MemoryBudgetError, match=r"cannot run in 100 MB: it needs at least (\d+) MB") as refused:
        plan.write_h5ad(tmp_path / "out.h5ad", memory="100MB")
    least = int(str(refused.value).split("at least ")[1].split(" MB")[0])
    plan.explain(f"{least + 1}MB")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "0", "1XB", "9" * 400, "9" * 5000 + "GB"])
def test_no_amount_of_memory(text: str) -> None:
    with pytest.raises(hr.InputError, match="is no amount of memory; write e.g. '1GB'"):
        parse_bytes(text)


# ----------------------------------------------------------------------------------------- how a budget is divided
SPEC = StreamSpec(
    pd.DataFrame(index=[f"g{i}" for i in range(50)]),
    pd.DataFrame(columns=["a", "b", "c"]),
    1000,
    layers={"counts": Holds.COUNTS, "logs": Holds.LOGGED},
)
MIB = 1 << 20
SINK = 3 * 4 * MIB + 3 * 16 * 1000
"""Buffers of X and two layers, and of three columns of 1,000 cells."""
FIXED = memory.OVERHEAD + memory.TYPICAL + 7 + 300 + SINK + 50 * 400


def cost_of(nnz: int) -> Cost:
    return Cost(nnz, 1, memory=11, resident=7)


def divided(total: int = 10**12, nnz: int = 10**8, spec: StreamSpec = SPEC, **options: Any) -> memory.Budget:
    return memory.divide(total, spec, cost_of(nnz), **{"statistics": 300, "in_flight": 3, **options})


def test_every_byte_of_a_budget_is_accounted_for() -> None:
    """A chunk as it came (12), X before and after, two layers (4 each): for three at work and one on its way."""
    plain = divided()
    assert plain == memory.Budget(10**12, 800_000, FIXED + 11, 2 * 8 + 4 * (12 + 4 * 4), 800_000)
    assert plain.peak == FIXED + 11 + 128 * 800_000
    few = divided(nnz=300_000)
    assert (few.chunk_nnz, few.held_nnz) == (800_000, 100_000), "three chunks share 300,000 non-zeros"
    assert few.peak == FIXED + 11 + 128 * 100_000
    assert divided(nnz=0).held_nnz == 0
    many = divided(spec=replace(SPEC, n_obs=10**6))
    assert many.fixed - plain.fixed == 3 * MIB - 3 * 16 * 1000, "a column has at most a MiB in memory"
    # two dense float32 matrices of 40 genes: 320 bytes a cell, of which there is one for every ten non-zeros
    assert divided(nnz=10_000, dense=40).per_nnz == 2 * 8 + 4 * (12 + 4 * 4 + 32)
    assert divided(most=700_000).chunk_nnz == 700_000


def test_a_spooled_plan_is_the_larger_of_reading_and_writing() -> None:
    reading = memory.Budget(10**12, 800_000, FIXED + 11, 2 * 8 + 4 * (8 + 6), 800_000)
    writing = memory.Budget(10**12, 800_000, FIXED, 4 * (12 + 4 * 4 + 8 + 4 * 2), 800_000)
    assert writing.peak > reading.peak
    assert divided(spooled=True) == writing
    alone = replace(SPEC, layers={})
    cheap = memory.divide(
        10**12, alone, Cost(10**8, 1, memory=10**9, resident=7), statistics=300, in_flight=3, spooled=True
    )
    fixed = FIXED - 2 * 4 * MIB
    assert cheap == memory.Budget(10**12, 800_000, fixed + 10**9, 72, 800_000), "reading takes more here"
    # where only one of the two has less room, both take its chunks
    room = fixed + 10**9 + 72 * 500_000
    tight = memory.divide(
        room, alone, Cost(10**8, 1, memory=10**9, resident=7), statistics=300, in_flight=3, spooled=True
    )
    assert tight == memory.Budget(room, 400_000, fixed + 10**9, 72, 400_000)


@pytest.mark.parametrize("halved", range(1, 4))
def test_chunks_are_halved_until_they_fit_and_no_further(halved: int) -> None:
    """Few sizes: an interrupted run, begun again with a little less memory, finds its parts."""
    nnz = 800_000 >> halved
    enough = FIXED + 11 + 128 * nnz
    for total, chunk_nnz in ((enough, nnz), (enough + 128 * nnz - 1, nnz), (enough + 128 * nnz, 2 * nnz)):
        budget = divided(total, nnz=10**7)
        assert (budget.total, budget.chunk_nnz) == (total, chunk_nnz)
        assert budget.peak <= total


def test_the_least_budget_is_the_least() -> None:
    """65,536 non-zeros or four cells, whichever is more."""
    least = FIXED + 11 + 128 * 65_536
    assert divided(least, nnz=10**7).chunk_nnz == 65_536
    with pytest.raises(hr.MemoryBudgetError, match="cannot run in") as refused:
        divided(least - 1, nnz=10**7)
    assert f"needs at least {least / 1e6:.0f} MB" in str(refused.value)
    assert f"of which {(FIXED + 11) / 1e6:.0f} MB are fixed" in str(refused.value)
    # cells of 100,000 non-zeros each: not fewer than four of them
    heavy = FIXED + 11 + 128 * 400_000
    assert divided(heavy, nnz=10**8).chunk_nnz == 400_000
    with pytest.raises(hr.MemoryBudgetError):
        divided(heavy - 1, nnz=10**8)


@pytest.mark.parametrize(("total", "said"), [(10**6, "cannot run in 1 MB"), (999_999, "cannot run in 999,999 bytes")])
def test_a_budget_without_its_unit_is_said_in_bytes(total: int, said: str) -> None:
    with pytest.raises(hr.MemoryBudgetError, match=said):
        divided(total)


# ------------------------------------------------------------------------------------------------ what there is
SIZES = {
    "1": 1,
    "7B": 7,
    "2k": 2000,
    "3KB": 3000,
    "1.5 MB": 1_500_000,
    "4g": 4 * 10**9,
    " 2 TB ": 2 * 10**12,
    "1KiB": 1024,
    "3MiB": 3 * 1024**2,
    "1.5GiB": 3 * 1024**3 // 2,
    "2ti": 2 * 1024**4,
}


@pytest.mark.parametrize("text", SIZES)
def test_amounts_of_memory(text: str) -> None:
    assert parse_bytes(text) == SIZES[text]


def test_numbers_are_bytes() -> None:
    assert parse_bytes(1) == 1
    for wrong in (0, -1, True):
        with pytest.raises(hr.InputError, match="is no amount of memory"):
            parse_bytes(wrong)


@pytest.mark.parametrize(
    ("limits", "there"),
    [
        ({}, 64 * 10**9),
        ({"memory.max": "max\n"}, 64 * 10**9),
        ({"memory.max": "8000000000\n"}, 8 * 10**9),
        ({"memory.limit_in_bytes": "6000000000\n"}, 6 * 10**9),
        ({"memory.limit_in_bytes": "9223372036854771712\n"}, 64 * 10**9),  # no limit, as the first cgroups say it
    ],
)
def test_a_cgroup_may_have_less_than_the_machine(
    limits: dict[str, str], there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path, **how: str) -> str:
        if path.name not in limits:
            raise FileNotFoundError(path)
        return limits[path.name]

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * 10**9))
    assert memory.available() == there
    assert memory.default_budget() == min(there // 4, 4 * 10**9)


def test_processors_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0: {4, 5, 7}}[pid], raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert memory.n_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert memory.n_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert memory.n_cores() == 1


def test_a_process_that_has_done_nothing_is_within_what_every_plan_reckons_with() -> None:
    """Counted are its own pages and as much of its libraries' as are mapped one by one, 130 MB.

    How many of these a kernel maps depends on its page cache: where a library has just been written, it lies there in large
    pieces, which are mapped whole. The same process then has 350 MB and not 243, of which 117 are its own in both cases.
    """
    code = "import headrace as hr; hr.Plan, hr.open_census; print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages = {
        line.split(":")[0]: int(line.split()[1]) << 10 for line in done.stdout.splitlines() if line.startswith("Rss")
    }
    held = pages["RssAnon"] + pages["RssShmem"] + min(pages["RssFile"], 130 << 20)
    assert 100 << 20 < held < memory.TYPICAL + memory.OVERHEAD
    assert memory.divide(10**12, SPEC, Cost(0, 0, 0), statistics=0, in_flight=1).peak > held
