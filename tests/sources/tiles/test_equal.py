"""The tile reader gives what TileDB gives, to the bit; small arrays of every format version, what is known of them."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiledbsoma as soma

from headrace.errors import SourceError
from headrace.sources.compact import Joinids, Sizes
from headrace.sources.ranges import CellRange
from headrace.sources.soma.bands import spans
from headrace.sources.soma.matrix import XReader
from headrace.sources.tiles import Line, TileReader, open_fragments, rows, zstd

DATA = Path(__file__).parents[2] / "data" / "tiles"


def reader(uri, joinids, nnz=None, gene_map=None):
    fragments = open_fragments(str(uri), {})
    if gene_map is None:
        gene_map = np.arange(fragments[-1].footer.columns[1] + 1, dtype=np.int32)
    return TileReader(fragments, joinids, nnz, gene_map, line=Line(False), threads=2, window=8 << 20)


def same(ours, theirs):
    assert ours.shape == theirs.shape
    for name in ("indptr", "indices"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    assert np.array_equal(ours.data.view(np.uint32), theirs.data.view(np.uint32))


@pytest.mark.parametrize("layer", ["raw", "normalized"])
@pytest.mark.parametrize("organism", ["homo_sapiens", "mus_musculus"])
def test_equal_to_tiledb_on_the_demo_census(demo_census, organism, layer):
    compare(demo_census / "census_data" / organism, layer)


@pytest.mark.parametrize("layer", ["raw", "normalized"])
def test_equal_to_tiledb_on_published_studies(real_census, layer):
    for organism in sorted((real_census / "census_data").iterdir()):
        if (organism / "ms").is_dir():
            compare(organism, layer)


def compare(experiment, layer):
    """All cells; random ranges; scattered cells; half of the genes; each with and without the counts of obs."""
    uri = experiment / "ms" / "RNA" / "X" / layer
    with soma.open(str(experiment)) as opened:
        nnz = opened.obs.read(column_names=["nnz"]).concat()["nnz"].to_numpy().astype(np.int64)
        n_var = opened.ms["RNA"].var.count
    rng = np.random.default_rng(3)
    n = len(nnz)
    everything = np.arange(n_var, dtype=np.int32)
    chosen = rng.random(n_var) < 0.5
    some = np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32)
    kinds = [np.arange(n), np.array([n - 1]), np.sort(rng.choice(n, min(n, 40), replace=False))]
    kinds += [np.arange(*sorted(rng.choice(n + 1, 2, replace=False))) for _ in range(3)]
    with soma.open(str(uri)) as array:
        for joinids in kinds:
            for gene_map in (everything, some):
                for target in (200_000, 3_000_000):
                    wanted = spans(Joinids(joinids), Sizes(nnz[joinids]), target)
                    theirs = list(XReader(array, joinids, nnz[joinids], gene_map).read(wanted))
                    for known in (nnz[joinids], None):
                        ours = list(reader(uri, joinids, known, gene_map).read(wanted))
                        assert len(ours) == len(theirs)
                        for one, other in zip(ours, theirs, strict=True):
                            same(one, other)


def known_arrays():
    spec = importlib.util.spec_from_file_location("make_versions", DATA / "make_versions.py")
    text = spec.loader.get_source("make_versions").replace("import tiledb\n", "")
    names = {"__name__": "known"}
    exec(compile(text, "make_versions.py", "exec"), names)
    return names


@pytest.mark.parametrize("path", sorted(DATA.glob("*.zip")), ids=lambda path: path.stem)
@pytest.mark.parametrize("python", [False, True], ids=["library", "callback"])
def test_every_format_version(path, python, tmp_path, monkeypatch):
    """Written by one release of TileDB-Py each; and once with zstd called from Python."""
    if python:
        monkeypatch.setattr(rows, "zstd", zstd.by_python)
    zipfile.ZipFile(path).extractall(tmp_path)
    made = known_arrays()
    assert open_fragments(str(tmp_path), {})[0].folder.endswith("_" + path.name.split("_")[1])
    r, c = made["coordinates"]()
    gene_map = np.arange(made["N_VAR"], dtype=np.int32)
    wanted = [CellRange(i, min(i + 37, 90)) for i in range(0, 90, 37)]
    got = list(reader(tmp_path, np.arange(90), None, gene_map).read(wanted))
    assert np.array_equal(np.concatenate([np.diff(X.indptr) for X in got]), np.bincount(r, minlength=90))
    assert np.array_equal(np.concatenate([X.indices for X in got]), c)
    assert np.array_equal(np.concatenate([X.data for X in got]), made["value"](r, c))


def test_damage_ends_in_an_error_or_in_values(tmp_path):
    """140 damaged copies: an error that is ours, or values; never a crash, and mostly it is noticed."""
    zipfile.ZipFile(DATA / "format_22_tiledb_py_0.36.1.zip").extractall(tmp_path)
    files = sorted(tmp_path.glob("__fragments/*/*0.tdb")) + sorted(tmp_path.glob("__fragments/*/d1.tdb"))
    files += sorted(tmp_path.glob("__fragments/*/__fragment_metadata.tdb")) + sorted(tmp_path.glob("__schema/__*"))
    files = [file for file in files if file.is_file()]
    rng = np.random.default_rng(0)
    noticed = 0
    from headrace.sources.tiles import Declined

    for i in range(140):
        file = files[i % len(files)]
        good = file.read_bytes()
        bad = np.frombuffer(good, np.uint8).copy()
        k = 1 + int(rng.integers(6))
        bad[rng.integers(0, len(bad), k)] = rng.integers(0, 256, k)
        file.write_bytes(bad.tobytes() if i % 7 else bad[: len(bad) * 2 // 3].tobytes())
        try:
            list(reader(tmp_path, np.arange(90), None, np.arange(300, dtype=np.int32)).read([CellRange(0, 90)]))
        except (Declined, SourceError):
            noticed += 1
        file.write_bytes(good)
    assert noticed > 60


def test_counts_of_obs_are_compared(tmp_path):
    zipfile.ZipFile(DATA / "format_22_tiledb_py_0.36.1.zip").extractall(tmp_path)
    made = known_arrays()
    nnz = np.bincount(made["coordinates"]()[0], minlength=90)
    nnz[17] += 1
    with pytest.raises(SourceError, match=r"for cell 17, but its obs\['nnz'\] says"):
        list(reader(tmp_path, np.arange(90), nnz).read([CellRange(0, 90)]))
