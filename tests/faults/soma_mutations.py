"""Mutates SOMA experiments and spools, and says what comes out of them: `python -m tests.faults.soma_mutations SECONDS`.

Every try is a process of its own. Good ends: the right result, or an error of headrace's. All else is printed: other
values, other errors, a crash, a hang. TileDB has no checksums: other values in files of X and obs are counted apart.
"""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import headrace as hr

MEMORY = 6 << 30
SECONDS, PATIENCE = 60, 900
"""Of the processor, and on the clock: another process may stop this one for minutes."""


def mutated(data: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Return bytes with something wrong."""
    out = bytearray(data)
    kind = rng.integers(0, 9)
    n = len(out)
    at = int(rng.integers(0, max(1, n)))
    if kind == 0 or n == 0:
        return bytes(out[:at])
    if kind == 1:
        for k in rng.integers(0, n * 8, int(rng.integers(1, 5))):
            out[k // 8] ^= 1 << (k % 8)
    elif kind == 2:
        out[at : at + int(rng.integers(1, 17))] = rng.bytes(int(rng.integers(1, 17)))
    elif kind == 3:
        stop = min(n, at + int(rng.integers(1, 65)))
        out[at:stop] = bytes(stop - at)
    elif kind == 4:
        stop = min(n, at + 8)
        out[at:stop] = int(rng.choice([2**63 - 1, 2**31, 2**32, 2**62, 10**9])).to_bytes(8, "little")[: stop - at]
    elif kind == 5:
        out += rng.bytes(int(rng.integers(1, 100)))
    elif kind == 6:
        other = others[int(rng.integers(len(others)))]
        out = bytearray(other)
    elif kind == 7:
        stop = min(n, at + int(rng.integers(1, 200)))
        del out[at:stop]
    else:
        out[at:at] = out[at : at + int(rng.integers(1, 200))]
    return bytes(out)


def tried(job: Callable[[], Any]) -> tuple[str, Any]:
    """Run a job in a process of its own, with little memory and time; return how it ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(PATIENCE)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            end = ("done", job())
        except hr.HeadraceError as error:
            end = ("refused", f"{type(error).__name__}: {error}"[:300])
        except BaseException as error:
            import traceback

            place = traceback.extract_tb(error.__traceback__)[-1]
            end = ("foreign", f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"[:300])
        with os.fdopen(write, "wb") as out:
            pickle.dump(end, out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as came:
        data = came.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "signal", signal.Signals(os.WTERMSIG(status)).name
    return pickle.loads(data) if data else ("no answer", status)


def digest(adata: Any) -> tuple[Any, ...]:
    """Return what has to be the same."""
    X = adata.X.toarray()
    frames = [pd.util.hash_pandas_object(frame.astype(str)).sum() for frame in (adata.obs, adata.var)]
    return X.shape, float((X * np.arange(1, X.size + 1).reshape(X.shape)).sum()), *map(int, frames)


def read_soma(root: Path, how: str) -> Any:
    """Read an experiment by one of the ways."""
    if how.startswith("census"):
        source: Any = hr.open_census(root, reader=how.partition(" ")[2]).query("mus_musculus")  # type: ignore[arg-type]
    else:
        source = hr.open_soma(root / "census_data" / "mus_musculus", reader=how.partition(" ")[2])  # type: ignore[arg-type]
    return digest(hr.Plan(source, [hr.SaveLayer("counts"), hr.NormalizeTotal(1e4)]).to_anndata(executor=hr.Serial()))


def soma(folder: Path, rng: np.random.Generator, ends: Counter[str]) -> None:
    """Mutate one file of an experiment and read it."""
    good = folder / "census"
    here = folder / "hurt"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(good, here)
    x_only = rng.random() < 0.6
    files = sorted(path for path in here.rglob("*") if path.is_file() and (("/X/raw/" in str(path)) or not x_only))
    path = files[int(rng.integers(len(files)))]
    path.chmod(0o644)
    before = path.read_bytes()
    path.write_bytes(mutated(before, rng, [one.read_bytes() for one in files[:5]]))
    how = str(rng.choice(["census tiles", "census tiledb", "census auto", "soma auto", "soma tiledb"]))
    end, what = tried(lambda: read_soma(here, how))
    name = "/".join(path.relative_to(here).parts[-3:])
    if end == "done":
        end = "right" if what == expected(folder, how) else "other"
    ends[f"soma {how}: {end}"] += 1
    if end not in ("right", "refused") and not (end == "other" and path.suffix == ".tdb"):
        print(f"{how}\t{end}\t{what}\t{name}\t{len(before)}", flush=True)
        kept = folder / "kept" / f"{ends.total()}"
        kept.mkdir(parents=True)
        shutil.copy(path, kept / path.name)
    elif end == "other":
        ends[f"other values of {'X' if x_only else path.parent.parent.parent.name}"] += 1


CACHE: dict[str, Any] = {}


def expected(folder: Path, how: str) -> Any:
    """Return the right result."""
    kind = how.partition(" ")[0]
    while kind not in CACHE:
        end, what = tried(lambda: read_soma(folder / "census", f"{kind} tiledb"))
        if end == "done":
            CACHE[kind] = what
        else:
            print(f"what is right is not known yet\t{end}\t{what}", flush=True)
    return CACHE[kind]


def run(folder: Path, out: Path, **more: Any) -> bytes:
    """Run a plan of several passes that keeps its spool; return the file."""
    source = hr.open_census(folder / "census").query("mus_musculus")
    steps = [hr.SaveLayer("counts"), hr.NormalizeTotal(), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=20)]
    hr.Plan(source, steps).write_h5ad(
        out, overwrite=True, keep_spool=True, spool=folder / "spool", memory="1GB", executor=hr.Serial(), **more
    )
    return out.read_bytes()


def spool(folder: Path, rng: np.random.Generator, ends: Counter[str]) -> None:
    """Mutate a spool that was kept, between two runs or between two passes, and run again."""
    if "spool" not in CACHE:
        shutil.rmtree(folder / "spool", ignore_errors=True)
        CACHE["spool"] = tried(lambda: run(folder, folder / "out.h5ad"))[1]
        shutil.copytree(folder / "spool", folder / "spool.good")
    shutil.rmtree(folder / "spool", ignore_errors=True)
    shutil.copytree(folder / "spool.good", folder / "spool")
    later = bool(rng.random() < 0.5)

    def hurt(event: Any = None) -> None:
        if later and not isinstance(event, hr.events.PassFinished):
            return
        parts = sorted((folder / "spool").glob("*/*"))
        part = parts[int(rng.integers(len(parts)))]
        kind = rng.integers(0, 4)
        if kind == 0:
            part.unlink()
        elif kind == 1:
            other = parts[int(rng.integers(len(parts)))]
            part.write_bytes(other.read_bytes())
        else:
            part.write_bytes(mutated(part.read_bytes(), rng, [one.read_bytes() for one in parts]))

    if not later:
        hurt()
    end, what = tried(lambda: run(folder, folder / "out.h5ad", **({"on_event": hurt} if later else {})))
    if end == "done":
        end = "right" if what == CACHE["spool"] else "other"
    ends[f"spool {'between passes' if later else 'between runs'}: {end}"] += 1
    if end not in ("right", "refused"):
        print(f"spool\t{end}\t{str(what)[:300]}", flush=True)


BUILD = """
import sys, pathlib
from headrace.testing import SimulatedDataset, build_census
build_census(pathlib.Path(sys.argv[1]), {"mus_musculus": [SimulatedDataset(300, n_vars=200)]}, layers=("raw",))
"""


def warm(folder: Path) -> None:
    """Compile what the tries will need, without TileDB, whose threads no fork survives."""
    from headrace.sources.arrays import ArraySource
    from headrace.sources.ranges import CellRange
    from headrace.sources.tiles.gate import open_fragments
    from headrace.sources.tiles.readahead import Line
    from headrace.sources.tiles.rows import TileReader

    X = folder / "census" / "census_data" / "mus_musculus" / "ms" / "RNA" / "X" / "raw"
    cells, genes = np.arange(100), np.arange(200, dtype=np.int32)
    reader = TileReader(open_fragments(str(X), {}), cells, None, genes, line=Line(False), threads=1)
    (counts,) = reader.read([CellRange(0, 100)])
    names = pd.DataFrame(index=[f"c{i}" for i in cells]), pd.DataFrame(index=[f"g{i}" for i in genes])
    steps = [hr.SaveLayer("counts"), hr.NormalizeTotal(), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=20)]
    hr.Plan(ArraySource(counts, *names), steps).write_h5ad(folder / "warm.h5ad", executor=hr.Serial())


def main(seconds: float, seed: int) -> None:
    """Mutate for some time, and say how it ended."""
    folder = Path(tempfile.mkdtemp(prefix="mutations-"))
    subprocess.run([sys.executable, "-c", BUILD, str(folder / "census")], check=True)
    warm(folder)
    rng = np.random.default_rng(seed)
    ends: Counter[str] = Counter()
    started = said = time.monotonic()
    while time.monotonic() - started < seconds:
        (spool if rng.random() < 0.25 else soma)(folder, rng, ends)
        if time.monotonic() - said > 300:
            said = time.monotonic()
            print(dict(ends), flush=True)
    for end, n in sorted(ends.items()):
        print(f"{n:6d}  {end}")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
