"""Who reads X: `reader=`, `HEADRACE_READER`, `explain`; and TileDB's answer where tiles may not be read."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.sources.soma.matrix import XReader
from headrace.sources.tiles import TileReader
from tests.somaio import from_anndata
from tests.sources.tiles.test_refused import READ, REASONS, REFUSED

UNREADABLE = {"dense", "encrypted", "other_names", "uint64", "from_minus_one", "two_attributes", "evolved"}
"""Of these tiledbsoma, or headrace with it, does not read X either."""


@pytest.fixture(autouse=True)
def _no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_READER", raising=False)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of 90 cells and 300 genes, whose obs has no nnz."""
    import anndata

    path = tmp_path_factory.mktemp("soma") / "experiment"
    names = [f"g{i}" for i in range(300)]
    X = np.zeros((90, 300), dtype=np.float32)
    X[0, 0] = 1
    from scipy import sparse

    data = anndata.AnnData(
        sparse.csr_matrix(X),
        obs=pd.DataFrame({"kind": "a"}, index=[f"c{i}" for i in range(90)]),
        var=pd.DataFrame({"gene_id": names}, index=names),
    )

    from_anndata(str(path), data, "RNA", X_layer_name="raw")
    return path


def with_x(experiment: Path, name: str, tmp_path: Path) -> str:
    """Return a copy of the experiment with another X."""
    path = tmp_path / "experiment"
    shutil.copytree(experiment, path)
    X = path / "ms" / "RNA" / "X" / "raw"
    shutil.rmtree(X)
    zipfile.ZipFile(REFUSED / f"{name}.zip").extractall(X)
    return str(path)


def cells(source: hr.Source) -> np.ndarray:
    return np.concatenate([chunk.X.toarray() for chunk in source.read(source.refs(10**6))])


@pytest.mark.parametrize("name", sorted({*REASONS, *READ} - UNREADABLE))
def test_tiledb_answers_where_tiles_may_not_be_read(experiment: Path, name: str, tmp_path: Path) -> None:
    uri = with_x(experiment, name, tmp_path)
    source = hr.open_soma(uri)
    assert isinstance(source._reader, TileReader if name in READ else XReader)
    expected = hr.open_soma(uri, reader="tiledb")
    assert isinstance(expected._reader, XReader)
    assert np.array_equal(cells(source), cells(expected))
    assert source.identity() == expected.identity()
    if name not in READ:
        with pytest.raises(hr.InputError, match=f"reader='tiles' cannot read .*because .*{REASONS[name]}"):
            hr.open_soma(uri, reader="tiles")


def test_explain_says_which_and_why(experiment: Path, tmp_path: Path, demo_census: Path) -> None:
    refused = hr.open_soma(with_x(experiment, "gzip", tmp_path))
    assert "X is read by: TileDB, because 'soma_data' is stored with the filters [1]" in str(hr.Plan(refused).explain())
    census = hr.open_census(demo_census)
    assert "X is read by: tiles, without TileDB" in str(hr.Plan(census.query("mus_musculus")).explain())
    asked = hr.open_census(demo_census, reader="tiledb").query("mus_musculus")
    assert "X is read by: TileDB, as asked" in str(hr.Plan(asked).explain())
    assert census.query("mus_musculus", reader="tiledb").notes == asked.notes


def test_what_cannot_be_noticed_is_said(experiment: Path, tmp_path: Path) -> None:
    source = hr.open_soma(with_x(experiment, "plain", tmp_path))
    assert any("damage to X might not be noticed" in note for note in source.notes)


def test_the_environment_says_what_auto_means(demo_census: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_READER", "tiledb")
    assert hr.open_census(demo_census).query("mus_musculus").notes == ("X is read by: TileDB, as asked",)
    assert "tiles" in hr.open_census(demo_census, reader="tiles").query("mus_musculus").notes[0]
    monkeypatch.setenv("HEADRACE_READER", "tilebd")
    with pytest.raises(hr.InputError, match="there is no reader 'tilebd'.*tiledb"):
        hr.open_census(demo_census).query("mus_musculus")


def test_no_such_reader(demo_census: Path) -> None:
    with pytest.raises(hr.InputError, match="there is no reader 'fast'"):
        hr.open_census(demo_census, reader="fast")  # type: ignore[arg-type]


def test_bytes_are_those_of_the_tiles(demo_census: Path) -> None:
    X = demo_census / "census_data" / "mus_musculus" / "ms" / "RNA" / "X" / "raw"
    query = hr.open_census(demo_census).query("mus_musculus")
    assert query.cost().bytes == sum(path.stat().st_size for path in X.glob("__fragments/*/[ad][01].tdb"))
    few = hr.open_census(demo_census).query("mus_musculus", obs_joinids=[0])
    assert 0 < few.cost().bytes <= query.cost().bytes


def test_a_copy_reads_the_same(demo_census: Path) -> None:
    query = hr.open_census(demo_census, reader="tiledb").query("mus_musculus")
    cells(query)
    copy = pickle.loads(pickle.dumps(query))
    assert copy.reader == copy.census.reader == "tiledb"
    assert len(pickle.dumps(query)) < 2000


def test_damage_is_noticed_by_the_counts_of_obs(demo_census: Path, tmp_path: Path) -> None:
    """Row coordinates that are others, in a frame that zstd accepts."""
    root = tmp_path / "census"
    shutil.copytree(demo_census, root)
    name = root / "census_data" / "mus_musculus" / "ms" / "RNA" / "X" / "raw"
    (file,) = name.glob("__fragments/*/d0.tdb")
    file.chmod(0o644)
    bad = bytearray(file.read_bytes())
    bad[len(bad) // 2] ^= 0xFF
    file.write_bytes(bytes(bad))
    with pytest.raises(hr.SourceError, match="damaged|contradicts itself"):
        hr.Plan(hr.open_census(root).query("mus_musculus")).to_anndata()
