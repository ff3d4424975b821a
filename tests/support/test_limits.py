"""What the system lets a process have, as Linux says it: groups of both versions, from within and without."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import headrace as hr
from headrace.support.limits import check_threads, memory_limits, processors

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 30 0:27 {root} /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
    "32 30 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
)
NO_LIMIT = "9223372036854771712"
JOB = "/slurm/uid_1000/job_7/step_0"


def tree(root: Path, cgroup: str, mounts: str, files: dict[str, str]) -> Path:
    """Write what a process would find."""
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return root


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)


MEMORY: dict[str, tuple[str, str, dict[str, str], int | None]] = {
    "v2, its own group": (f"0::{JOB}\n", V2, {f"sys/fs/cgroup{JOB}/memory.max": "3000000000"}, 3_000_000_000),
    "v2, one above": (
        f"0::{JOB}\n",
        V2,
        {f"sys/fs/cgroup{JOB}/memory.max": "max", "sys/fs/cgroup/slurm/uid_1000/memory.max": "2000000000"},
        2_000_000_000,
    ),
    "v2, the least of several": (
        f"0::{JOB}\n",
        V2,
        {f"sys/fs/cgroup{JOB}/memory.max": "5000000000", "sys/fs/cgroup/slurm/memory.max": "4000000000"},
        4_000_000_000,
    ),
    "v2, throttled before": (
        "0::/user.slice\n",
        V2,
        {"sys/fs/cgroup/user.slice/memory.max": "9000000000", "sys/fs/cgroup/user.slice/memory.high": "8000000000"},
        8_000_000_000,
    ),
    "v2, a container that sees its group as the topmost": (
        "0::/\n",
        V2,
        {"sys/fs/cgroup/memory.max": "1000000000"},
        1_000_000_000,
    ),
    "v2, outside of the namespace": ("0::/../../x\n", V2, {"sys/fs/cgroup/memory.max": "1000000000"}, 1_000_000_000),
    "v1, its own group": (
        f"9:memory:{JOB}\n3:cpu,cpuacct:/\n",
        V1.format(root="/"),
        {f"sys/fs/cgroup/memory{JOB}/memory.limit_in_bytes": "3000000000"},
        3_000_000_000,
    ),
    "v1, one above": (
        f"9:memory:{JOB}\n",
        V1.format(root="/"),
        {
            f"sys/fs/cgroup/memory{JOB}/memory.limit_in_bytes": NO_LIMIT,
            "sys/fs/cgroup/memory/slurm/uid_1000/job_7/memory.limit_in_bytes": "2500000000",
        },
        2_500_000_000,
    ),
    "v1, a container whose group is mounted as the topmost": (
        "9:memory:/docker/0123\n",
        V1.format(root="/docker/0123"),
        {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1500000000"},
        1_500_000_000,
    ),
    "v1, above what a container sees": (
        "9:memory:/\n",
        V1.format(root="/"),
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
            "sys/fs/cgroup/memory/memory.stat": "cache 7\nhierarchical_memory_limit 1200000000\n",
        },
        1_200_000_000,
    ),
    "both versions": (
        f"9:memory:{JOB}\n0::/init.scope\n",
        V1.format(root="/") + V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "),
        {
            f"sys/fs/cgroup/memory{JOB}/memory.limit_in_bytes": "3000000000",
            "sys/fs/cgroup/unified/init.scope/cgroup.procs": "1",
        },
        3_000_000_000,
    ),
    "none": ("0::/\n", V2, {"sys/fs/cgroup/cgroup.procs": "1"}, None),
    "v2, a line of another hierarchy that is no text": (
        "1:name=\udcff:/x\n0::/a\n",
        V2,
        {"sys/fs/cgroup/a/memory.max": "1000000000"},
        1_000_000_000,
    ),
    "v2, a group whose name is no text": (
        "0::/a\udcff\n",
        V2,
        {"sys/fs/cgroup/a\udcff/memory.max": "1000000000"},
        1_000_000_000,
    ),
    "v2, a mounted place with an odd escape": (
        "0::/a\n",
        V2.replace("/sys/fs/cgroup ", "/sys/fs/c\\040g ") + V2.replace("/sys/fs/cgroup ", "/c\\999 "),
        {"sys/fs/c g/a/memory.max": "1000000000"},
        1_000_000_000,
    ),
    "v2, mounted within a container as a group above": (
        "0::/docker/x/y\n",
        V2.replace("26 / ", "26 /docker/x "),
        {"sys/fs/cgroup/y/memory.max": "1000000000"},
        1_000_000_000,
    ),
    "v2, another group whose name begins so": (
        "0::/docker/xy\n",
        V2.replace("26 / ", "26 /docker/x "),
        {"sys/fs/cgroup/y/memory.max": "1000000000", "sys/fs/cgroup/memory.max": "2000000000"},
        2_000_000_000,
    ),
    "v1, unknown controllers": (
        "12:misc,foo:/a\n9:memory:/b\n1:name=systemd:/c\n0::/d\n",
        V1.format(root="/"),
        {"sys/fs/cgroup/memory/b/memory.limit_in_bytes": "1000000000"},
        1_000_000_000,
    ),
    **{
        f"v2, a limit of {text[:9]!r}": ("0::/\n", V2, {"sys/fs/cgroup/memory.max": text}, expected)
        for text, expected in {
            "²": None,
            "1\udcff": None,
            "9" * 5000: None,
            "9" * 25: None,
            "18446744073709551615": None,
            "-1": None,
            "": None,
            "1e9": None,
            "1000000000 max": None,
            "1000\0": None,
            " 5000000000 \n": 5_000_000_000,
            "٣": None,
        }.items()
    },
    "nonsense": ("0\n::::\n\n", "- -\nx y z\n", {}, None),
}


@pytest.mark.parametrize("case", MEMORY)
def test_the_memory_of_a_group(case: str, tmp_path: Path) -> None:
    cgroup, mounts, files, expected = MEMORY[case]
    assert memory_limits(tree(tmp_path, cgroup, mounts, files)).get("control group") == expected


def test_the_memory_of_a_job_without_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "4096")
    assert memory_limits(tmp_path)["SLURM_MEM_PER_NODE"] == 4096 << 20
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1000")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    assert memory_limits(tmp_path)["SLURM_MEM_PER_CPU"] == 3000 << 20
    for odd in ("²", "9" * 5000, "0", "4G", ""):
        monkeypatch.setenv("SLURM_MEM_PER_NODE", odd)
        assert "SLURM_MEM_PER_NODE" not in memory_limits(tmp_path)


CPUS: dict[str, tuple[str, str, dict[str, str], int]] = {
    "v2": (f"0::{JOB}\n", V2, {f"sys/fs/cgroup{JOB}/cpu.max": "300000 100000"}, 3),
    "v2, one above": (f"0::{JOB}\n", V2, {"sys/fs/cgroup/slurm/cpu.max": "150000 100000"}, 2),
    "v2, less than one": ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
    "v2, no quota": ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "max 100000"}, 64),
    "v1": (
        "3:cpu,cpuacct:/docker/1\n",
        V1.format(root="/docker/1"),
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
        4,
    ),
    "v1, no quota": (
        "3:cpu,cpuacct:/\n",
        V1.format(root="/"),
        {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"},
        64,
    ),
    "v1, the other way round": (
        "3:cpuacct,cpu:/a\n",
        V1.format(root="/").replace("rw,cpu,cpuacct", "rw,cpuacct,cpu"),
        {
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        },
        2,
    ),
    **{
        f"v2, a quota of {text[:9]!r}": ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": text}, expected)
        for text, expected in {
            "max": 64,
            "": 64,
            "²0 100000": 64,
            "100000": 64,
            "200000 0": 64,
            "-1 100000": 64,
            "150000.5 100000": 64,
            "9" * 5000 + " 1": 64,
            "9" * 30 + " 1": 64,
            "1\udcff 1": 64,
            "1000 1000000": 1,
            "250000\t 100000 \n": 3,
        }.items()
    },
}


@pytest.mark.parametrize("case", CPUS)
def test_processors_by_quota(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    cgroup, mounts, files, expected = CPUS[case]
    assert processors(tree(tmp_path, cgroup, mounts, files)) == expected
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert processors(tmp_path) == min(2, expected)
    for odd in ("²", "9" * 5000, "0", "2(x3)", "", "-1"):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", odd)
        assert processors(tmp_path) == expected


def limited(code: str, kind: int, n_bytes: int) -> subprocess.CompletedProcess[str]:
    """Run Python code with a limit."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        preexec_fn=lambda: resource.setrlimit(kind, (n_bytes, n_bytes)),
        capture_output=True,
        text=True,
        timeout=200,
    )


LIMITS = "from headrace.support.limits import memory_limits; print(memory_limits())"


def test_the_address_space_is_a_limit_of_memory() -> None:
    assert f"'ulimit -v': {1 << 31}" in limited(LIMITS, resource.RLIMIT_AS, 1 << 31).stdout
    assert f"'ulimit -d': {1 << 30}" in limited(LIMITS, resource.RLIMIT_DATA, 1 << 30).stdout


EXPORT = """
import sys
from headrace.cli import main
sys.exit(main(["export", "--census", sys.argv[1], "--organism", "mus_musculus", "--min-cells", "5", "--hvg", "100",
    "--target-sum", "1e4", "--log1p", "--out", sys.argv[2], "--memory", "450MB"]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit that is kept")
@pytest.mark.parametrize("megabytes", [400, 700, 1600])
def test_little_address_space_is_refused_with_figures_or_does(
    megabytes: int, demo_census: Path, tmp_path: Path
) -> None:
    code = EXPORT.replace("sys.argv[1]", repr(str(demo_census))).replace("sys.argv[2]", repr(f"{tmp_path}/out.h5ad"))
    done = limited(code, resource.RLIMIT_AS, megabytes << 20)
    if megabytes == 1600:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert f"'ulimit -v' allows {(megabytes << 20) / 1e6:,.0f} MB" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_tiledb_starts_no_more_threads_than_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.sources.soma import location

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(location, "n_cores", lambda: 3)
    given = location.Location("x").context().tiledb_config
    assert (given["sm.compute_concurrency_level"], given["sm.io_concurrency_level"]) in ((3, 8), ("3", "8"))
    given = location.Location("x", (("sm.compute_concurrency_level", "5"),)).context().tiledb_config
    assert str(given["sm.compute_concurrency_level"]) == "5"


def test_threads_are_tried_before_tiledb_starts_any(monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.sources.soma import location

    asked: list[int] = []

    def refuse(n: int, what: str) -> None:
        asked.append(n)
        raise hr.OutputError(f"{what} {n}")

    def start(*more: object, **others: object) -> None:
        raise AssertionError("TileDB would have started threads")

    location._known_settings.cache_clear()
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(location, "check_threads", refuse)
    monkeypatch.setattr(location.soma, "SOMATileDBContext", start)
    for cores, config, n in ((64, (), 130), (3, (), 13), (3, (("sm.io_concurrency_level", "1"),), 6)):
        monkeypatch.setattr(location, "n_cores", lambda cores=cores: cores)
        with pytest.raises(hr.OutputError, match=f"opening x {n}"):
            location.Location("x", config).context()
    assert asked == [130, 13, 6]


def test_threads_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_threads(5, "this run")
    start, started = threading.Thread.start, []

    def few(thread: threading.Thread) -> None:
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    with pytest.raises(hr.OutputError, match=r"needs 5 more threads at once, and only 3 can be started: .*ulimit -u"):
        check_threads(5, "this run")
    assert not any(thread.is_alive() for thread in started)


def test_a_plan_without_threads_reads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    events: list[Any] = []

    def refuse(n: int, what: str) -> None:
        raise hr.OutputError(f"{what} {n}")

    source = hr.open_counts(pd.DataFrame({"a": [1, 2], "b": [3, 4]}, index=["g", "h"]), orientation="genes x samples")
    monkeypatch.setattr("headrace.engine.preflight.check_threads", refuse)
    with pytest.raises(hr.OutputError, match="this run"):
        hr.Plan(source).write_h5ad(tmp_path / "x.h5ad", on_event=events.append)
    assert events == []
