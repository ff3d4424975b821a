"""A run as tasks of a batch queue: by hand, by a SLURM array, by Snakemake, by Nextflow; the file is that of one command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from headrace.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS = ["--layer", "counts", "--min-cells", "3", "--target-sum", "1e4", "--log1p", "--hvg", "50", "--memory", "1GB"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.poisson(0.6, (300, 120)).astype(np.float32))
    obs = pd.DataFrame(index=[f"c{i}" for i in range(300)])
    path = tmp_path_factory.mktemp("queue") / "in.h5ad"
    anndata.AnnData(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(120)])).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def expected(stored: Path) -> bytes:
    out = stored.with_name("one.h5ad")
    assert main(["export", "--h5ad", str(stored), *STEPS, "--out", str(out)]) == 0
    return out.read_bytes()


def test_by_hand(stored: Path, expected: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(tmp_path / "run"), tmp_path / "x.h5ad"
    plan = ["plan", "--h5ad", str(stored), *STEPS, "--shards", "3", "--out", run]
    assert main(plan) == 0
    assert "3 shards, 2 passes over the cells" in capsys.readouterr().err
    assert main(plan) == 1
    assert "has a plan already" in capsys.readouterr().err
    assert main(["merge", run]) == 1
    assert "pass 1 waits for 3 shards (0, 1, 2); go on with 'headrace work" in capsys.readouterr().err
    assert main(["assemble", run, "--out", str(out)]) == 1
    assert "pass 1 of 2 waits for 3 shards" in capsys.readouterr().err
    assert main(["work", run, "--shard", "3"]) == 1
    assert "the run has shards 0 to 2" in capsys.readouterr().err
    assert main(["work", run]) == 2
    for shard in "201":
        assert main(["work", run, "--shard", shard]) == 0
    assert main(["work", run, "--shard", "1"]) == 0
    assert "shard 1 of pass 1 is done already" in capsys.readouterr().err
    assert main(["assemble", run, "--out", str(out)]) == 1
    assert "being merged" in capsys.readouterr().err
    assert main(["merge", run]) == 0
    assert main(["work", run, "--shard", "0"]) == 0
    capsys.readouterr()
    assert main(["status", run]) == 0
    text = capsys.readouterr().out
    assert "pass 1 (FilterGenes): 3 of 3 shards done" in text
    assert "pass 2 (HighlyVariableGenes + write): 1 of 3 shards done" in text
    assert text.splitlines()[-1] == f"next: headrace work {run} --shard 1"
    for shard in "12":
        assert main(["work", run, "--shard", shard]) == 0
    assert main(["assemble", run, "--out", str(out)]) == 0
    assert out.read_bytes() == expected


@pytest.mark.parametrize("how", [[], ["--no-checksum", "--counts", "int32"]], ids=["default", "options"])
def test_shards_make_the_chunks(
    how: list[str], stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chunks of HDF5 are small here, so that many lie within the cells of a shard."""
    monkeypatch.setattr("headrace.sinks.h5ad.hdf5.CHUNK_BYTES", 1000)
    run, out, one = str(tmp_path / "run"), tmp_path / "x.h5ad", tmp_path / "one.h5ad"
    assert main(["export", "--h5ad", str(stored), *STEPS, *how, "--out", str(one)]) == 0
    plan = ["plan", "--h5ad", str(stored), *STEPS, *how, "--shards", "3", "--out", run]
    if how:
        assert main(plan) == 2
        assert "unless --chunks is given" in capsys.readouterr().err
    assert main([*plan, "--chunks"]) == 0
    for number in (1, 2, 3):
        assert main(["assemble", run, "--out", str(out)]) == 1
        for shard in "201":
            assert main(["work", run, "--shard", shard]) == 0
        assert main(["work", run, "--shard", "1"]) == 0
        assert f"shard 1 of pass {number} is done already" in capsys.readouterr().err
        assert number == 3 or main(["merge", run]) == 0
    assert main(["status", run]) == 0
    text = capsys.readouterr().out
    assert "pass 3 (chunks of the file): 3 of 3 shards done" in text
    assert text.splitlines()[-1] == f"next: headrace assemble {run} --out FILE.h5ad"
    assert main(["assemble", run, "--out", str(out), "--compression", "gzip"]) == 1
    assert "the plan says how the file is stored; leave compression out" in capsys.readouterr().err
    for _ in range(2):
        assert main(["assemble", run, "--out", str(out), "--overwrite"]) == 0
        assert out.read_bytes() == one.read_bytes()
    piece = min((tmp_path / "run").glob("*/pass-2-*.ready-000000"))
    shard = str(int(piece.name[7:13]))
    hurt = bytearray(piece.read_bytes())
    hurt[len(hurt) // 2] ^= 1
    piece.write_bytes(hurt)
    assert main(["assemble", run, "--out", str(out), "--overwrite"]) == 1
    assert "is gone or damaged; run again" in capsys.readouterr().err
    assert out.read_bytes() == one.read_bytes(), "the file that was there"
    assert main(["work", run, "--shard", shard]) == 0
    assert main(["assemble", run, "--out", str(out), "--overwrite"]) == 0
    assert out.read_bytes() == one.read_bytes()


def test_chunks_are_not_made_of_samples(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--shards", "2", "--chunks", "--out", str(tmp_path / "run")]
    with_donors = tmp_path / "donors.h5ad"
    cells = anndata.read_h5ad(stored)
    cells.obs["donor"] = pd.Categorical(["a", "b"] * 150)
    cells.write_h5ad(with_donors)
    assert main(["plan", "--h5ad", str(with_donors), "--pseudobulk", "donor", *options]) == 1
    assert "are made of cells, not of samples or groups; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["work", "--shard", "0"], ["merge"], ["status"], ["assemble", "--out", str(tmp_path / "x.h5ad")]):
        assert main([command[0], str(tmp_path / "none"), *command[1:]]) == 1
        assert "has no plan; 'headrace plan" in capsys.readouterr().err


def test_what_a_shard_left_is_damaged(stored: Path, expected: bytes, tmp_path: Path) -> None:
    """It is done again, and the bytes are the same."""
    run, out = tmp_path / "run", tmp_path / "x.h5ad"
    assert main(["plan", "--h5ad", str(stored), *STEPS, "--shards", "2", "--out", str(run)]) == 0
    for _ in "12":
        assert main(["work", str(run), "--shard", "0"]) == 0
        assert main(["work", str(run), "--shard", "1"]) == 0
        assert main(["merge", str(run)]) == 0
    (cells,) = run.glob("*/pass-2-000001.cells")
    damaged = bytearray(cells.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    cells.write_bytes(damaged)
    assert main(["assemble", str(run), "--out", str(out)]) == 1
    assert not out.exists()
    (state,) = run.glob("*/pass-2-000000.state")
    state.write_bytes(state.read_bytes()[:-1])
    assert main(["work", str(run), "--shard", "0"]) == 0
    assert main(["work", str(run), "--shard", "1"]) == 0
    assert main(["assemble", str(run), "--out", str(out)]) == 0
    assert out.read_bytes() == expected


def test_twice_at_once(stored: Path, expected: bytes, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "x.h5ad"
    assert main(["plan", "--h5ad", str(stored), *STEPS, "--shards", "2", "--out", str(run)]) == 0
    twice = [[sys.executable, "-m", "headrace", "work", str(run), "--shard", "0"]] * 2
    for _ in "12":
        with ThreadPoolExecutor(2) as pool:
            assert [done.returncode for done in pool.map(subprocess.run, twice)] == [0, 0]
        assert main(["work", str(run), "--shard", "1"]) == 0
        assert main(["merge", str(run)]) == 0
    assert main(["assemble", str(run), "--out", str(out)]) == 0
    assert out.read_bytes() == expected


def test_the_source_was_changed(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy, run = tmp_path / "copy.h5ad", tmp_path / "run"
    shutil.copy(stored, copy)
    assert main(["plan", "--h5ad", str(copy), *STEPS, "--shards", "1", "--out", str(run)]) == 0
    assert main(["work", str(run), "--shard", "0"]) == 0
    shutil.copy(stored, copy)
    os.utime(copy, (1, 1))
    assert main(["merge", str(run)]) == 1
    assert "has changed since it was opened" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- schedulers
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH in which `headrace` is this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "headrace").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m headrace "$@"\n')
    (folder / "headrace").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def sbatch(folder: Path, log: Path) -> None:
    """Put a stand-in for SLURM's sbatch into a folder: it does array tasks one after the other, and knows --parsable."""
    (folder / "sbatch").write_text(f"""#!{sys.executable}
import os, re, subprocess, sys
options = [one for one in sys.argv[1:] if one.startswith("-")]
script = [one for one in sys.argv[1:] if not one.startswith("-")]
text = open(script[0]).read()
said = dict(one.lstrip("-").partition("=")[::2] for one in [*re.findall(r"^#SBATCH (--\\S+)", text, re.M), *options])
tasks = said.get("array")
first, last = map(int, tasks.split("-")) if tasks else (0, 0)
for task in range(first, last + 1):
    more = {{"SLURM_ARRAY_TASK_ID": str(task)}} if tasks else {{}}
    subprocess.run(["bash", *script], check=True, env={{**os.environ, **more}})
print(1 + sum(1 for _ in open({str(log)!r})) if os.path.exists({str(log)!r}) else 1)
open({str(log)!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
""")
    (folder / "sbatch").chmod(0o755)


def test_a_slurm_array(stored: Path, expected: bytes, tmp_path: Path) -> None:
    found, log = environment(tmp_path), tmp_path / "log"
    sbatch(tmp_path / "bin", log)
    shutil.copytree(EXAMPLES / "slurm", tmp_path / "slurm")
    plan = ["headrace", "plan", "--h5ad", str(stored), *STEPS, "--shards", "3", "--out", "run"]
    subprocess.run(plan, cwd=tmp_path, env=found, check=True)
    subprocess.run(["bash", "slurm/submit.sh", "run", "x.h5ad"], cwd=tmp_path, env=found, check=True)
    assert (tmp_path / "x.h5ad").read_bytes() == expected
    submitted = log.read_text().splitlines()
    assert len(submitted) == 4, "work, merge, work, assemble"
    assert all("--dependency=afterok:" in one for one in submitted[1:])


def test_snakemake(stored: Path, expected: bytes, tmp_path: Path) -> None:
    found = environment(tmp_path)
    snakemake = shutil.which("snakemake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if snakemake is None:
        pytest.skip("needs snakemake, which the extra 'test' brings")
    shutil.copytree(EXAMPLES / "snakemake", tmp_path, dirs_exist_ok=True)
    options = " ".join(["--h5ad", str(stored), *STEPS])
    config = ["--config", f"options={options}", "shards=2", "out=x.h5ad"]
    subprocess.run([snakemake, "--cores", "2", *config], cwd=tmp_path, env=found, check=True)
    assert (tmp_path / "x.h5ad").read_bytes() == expected


def test_nextflow(stored: Path, expected: bytes, tmp_path: Path) -> None:
    nextflow = shutil.which("nextflow")
    if nextflow is None:
        pytest.skip("needs nextflow")
    found = environment(tmp_path)
    options = " ".join(["--h5ad", str(stored), *STEPS])
    command = [nextflow, "run", str(EXAMPLES / "nextflow" / "main.nf"), "--options", options, "--shards", "3"]
    subprocess.run([*command, "--out", str(tmp_path / "x.h5ad")], cwd=tmp_path, env=found, check=True)
    assert (tmp_path / "x.h5ad").read_bytes() == expected


def test_examples_name_commands_that_there_are() -> None:
    for path in EXAMPLES.glob("*/*"):
        for command in re.findall(r"headrace (\w+)", path.read_text()):
            assert command in ("plan", "work", "merge", "assemble", "status", "explain"), f"{path}: {command}"


def test_queue_json_is_plain(stored: Path, tmp_path: Path) -> None:
    assert main(["plan", "--h5ad", str(stored), *STEPS, "--shards", "5", "--out", str(tmp_path / "run")]) == 0
    said = json.loads((tmp_path / "run" / "queue.json").read_text())
    assert said["shards"] == 5
    assert said["passes"] == ["FilterGenes", "HighlyVariableGenes + write"]
