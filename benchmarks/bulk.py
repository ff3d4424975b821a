"""Factors of many samples, beside edgeR, rnanorm, conorm (TMM) and inmoose (median of ratios): one table.

    python benchmarks/bulk.py --peers /path/to/venv/bin/python

Every program runs in a process of its own, reads the same simulated counts from memory-mapped files, and is timed from
the matrix in memory to the factors; imports, reading and compiling (once ever, for headrace) are not counted. R is
asked for edgeR; `--peers` names a Python that has `rnanorm`, `conorm` and `inmoose`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

R_SCRIPT = """
a <- commandArgs(TRUE); n <- as.integer(a[2]); g <- as.integer(a[3])
con <- file(a[1], "rb"); x <- readBin(con, "integer", n * g, size = 4); close(con)
x <- matrix(as.double(x), nrow = g)
suppressMessages(library(edgeR))
t <- system.time(f <- calcNormFactors(x))[["elapsed"]]
cat(sprintf('{"seconds": %f, "factors": [%s]}', t, paste(sprintf("%.17g", f), collapse = ",")))
"""
PEERS = ("headrace", "headrace plan", "edgeR (R)", "rnanorm", "conorm", "headrace ratio", "inmoose ratio")


def simulate(n: int, g: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return counts, samples x genes; about half of them are zero, as in bulk data over all annotated genes."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(0, 3.2, g)) * (rng.random(g) < 0.8)
    depth = rng.uniform(0.5, 2, (n, 1))
    out = np.empty((n, g), dtype=np.int32)
    for start in range(0, n, 50):
        rate = mean * depth[start : start + 50] * rng.gamma(5, 0.2, (min(50, n - start), g))
        out[start : start + 50] = rng.poisson(np.minimum(rate, 1e6))
    return out


def one(peer: str, file: str, n: int, g: int) -> dict[str, Any]:
    """Run one Python peer on the counts in `file`."""
    counts = np.fromfile(file, dtype=np.int32).reshape(n, g)
    if peer.startswith("headrace"):
        import pandas as pd

        import headrace as hr
        from headrace.stats.libraries import Settings, norm_factors

        settings = Settings("ratio" if peer.endswith("ratio") else "TMM")
        norm_factors(counts[:20, :500], settings)
        obs, var = pd.DataFrame(index=np.arange(n).astype(str)), pd.DataFrame(index=np.arange(g).astype(str))
        if peer != "headrace plan":
            started = time.perf_counter()
            factors = norm_factors(counts, settings)["size_factors" if peer.endswith("ratio") else "norm_factors"]
        else:
            frame = pd.DataFrame(counts, obs.index, var.index)
            hr.Plan(hr.open_counts(frame.iloc[:20], orientation="samples x genes"), [hr.NormFactors()]).var()
            started = time.perf_counter()
            source = hr.open_counts(frame, orientation="samples x genes")
            chunks = hr.Plan(source, [hr.NormFactors()]).chunks()
            factors = np.concatenate([chunk.obs["norm_factors"].to_numpy() for chunk in chunks])
    elif peer == "rnanorm":
        from rnanorm import TMM

        started = time.perf_counter()
        factors = TMM().fit(counts).get_norm_factors(counts)
    elif peer == "conorm":
        import conorm
        import pandas as pd

        frame = pd.DataFrame(counts.T)
        started = time.perf_counter()
        factors = conorm.tmm_norm_factors(frame).to_numpy().ravel()
    else:
        from inmoose.deseq2.estimateSizeFactors import estimateSizeFactorsForMatrix

        started = time.perf_counter()
        factors = estimateSizeFactorsForMatrix(counts)
    return {"seconds": time.perf_counter() - started, "factors": np.asarray(factors, dtype=float).tolist()}


def command(peer: str, file: str, n: int, g: int, peers: str) -> list[str]:
    """Return how to run a peer."""
    if peer == "edgeR (R)":
        return [shutil.which("Rscript") or "Rscript", "-e", R_SCRIPT, file, str(n), str(g)]
    python = sys.executable if peer.startswith("headrace") else peers
    return [python, __file__, "--one", peer, "--file", file, "--samples", str(n), "--genes", str(g)]


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--genes", type=int, default=60_000)
    parser.add_argument("--peers", default=sys.executable, help="a Python with the peers")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    given = parser.parse_args()
    n, g = given.samples, given.genes
    if given.one:
        print(json.dumps(one(given.one, given.file, n, g)))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "counts.int32")
        simulate(n, g).tofile(file)
        print(f"factors (TMM, or median of ratios) of {n:,} samples x {g:,} genes; seconds from the matrix in memory")
        print(f"{'':<16}{'seconds':>9}{'times ours':>12}{'largest difference':>21}")
        ours: dict[str, Any] = {}
        for peer in PEERS:
            try:
                run = subprocess.run(
                    command(peer, file, n, g, given.peers), capture_output=True, text=True, timeout=given.timeout
                )
                result = json.loads(run.stdout.strip().splitlines()[-1])
            except (OSError, IndexError, json.JSONDecodeError, subprocess.TimeoutExpired) as error:
                last = (
                    run.stderr.strip().splitlines()[-1:]
                    if isinstance(error, (IndexError, ValueError))
                    else [str(error)]
                )
                print(f"{peer:<16}{'none':>9}  {''.join(last)[:90]}", flush=True)
                continue
            ours = result if not ours or peer == "headrace ratio" else ours
            apart = np.max(np.abs(np.array(result["factors"]) / np.array(ours["factors"]) - 1))
            times = result["seconds"] / ours["seconds"]
            print(f"{peer:<16}{result['seconds']:>9.2f}{times:>12.1f}{apart:>21.1e}", flush=True)


if __name__ == "__main__":
    main()
