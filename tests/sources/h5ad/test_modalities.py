"""MuData files (.h5mu): one modality is read as a file of its own."""

from __future__ import annotations

import pickle
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from scipy import sparse

import headrace as hr
from headrace.cli import main


def modality(n_vars: int, kind: type = sparse.csr_matrix) -> anndata.AnnData:
    rng = np.random.default_rng(n_vars)
    counts = rng.poisson(1, (12, n_vars)).astype(np.float32)
    obs = pd.DataFrame({"kind": pd.Categorical(rng.choice(["a", "b"], 12))}, index=[f"c{i}" for i in range(12)])
    adata = anndata.AnnData(kind(counts), obs, pd.DataFrame(index=[f"f{n_vars}-{i}" for i in range(n_vars)]))
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["X_pca"] = rng.normal(size=(12, 2))
    adata.uns["note"] = f"of {n_vars}"
    adata.raw = adata
    return adata


def muon(path: Path, **modalities: anndata.AnnData) -> Path:
    """Write a file as mudata 0.3 does."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.attrs.update({"encoding-type": "MuData", "encoding-version": "0.1.0", "axis": 0})
        for name, adata in modalities.items():
            write_elem(file.require_group("mod"), name, adata)
        file["mod"].attrs["mod-order"] = list(modalities)
        both = next(iter(modalities.values())).obs
        write_elem(file, "obs", pd.DataFrame({"rna:kind": both["kind"]}, index=both.index))
        write_elem(file, "var", pd.DataFrame(index=[name for each in modalities.values() for name in each.var_names]))
        write_elem(file, "obsm", {})
    with path.open("r+b") as raw:
        raw.write(b"MuData (format-version=0.1.0;creator=muon;creator-version=0.1.0)")
    return path


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
@pytest.mark.parametrize("asked", [{}, {"layer": "counts"}, {"raw": True}])
def test_a_modality_is_read_as_a_file_of_its_own(tmp_path: Path, kind: type, asked: dict) -> None:
    rna, adt = modality(7, kind), modality(3, kind)
    path = muon(tmp_path / "x.h5mu", rna=rna, adt=adt)
    for name, expected in (("rna", rna), ("adt", adt)):
        source = hr.open_h5ad(path, modality=name, uns="keep", **asked)
        out = hr.Plan(pickle.loads(pickle.dumps(source))).to_anndata()
        X = expected.X.toarray() if sparse.issparse(expected.X) else expected.X
        np.testing.assert_array_equal(out.X.toarray(), X)
        assert out.var_names.tolist() == expected.var_names.tolist()
        pd.testing.assert_series_equal(out.obs["kind"], expected.obs["kind"])
        np.testing.assert_array_equal(out.obsm["X_pca"], expected.obsm["X_pca"])
        assert out.uns["note"] == expected.uns["note"]
        assert out.uns["headrace"]["query"]["modality"] == name
    assert hr.open_h5ad(path, modality="rna").identity() != hr.open_h5ad(path, modality="adt").identity()


def test_a_modality_is_asked_for_by_name(tmp_path: Path) -> None:
    path = muon(tmp_path / "x.h5mu", rna=modality(7), adt=modality(3))
    with pytest.raises(hr.InputError, match=r"2 modalities; say which: modality='adt' or modality='rna'"):
        hr.open_h5ad(path)
    with pytest.raises(hr.InputError, match=r"modality='rnaa'.*did you mean 'rna'"):
        hr.open_h5ad(path, modality="rnaa")
    with pytest.raises(hr.InputError, match=r"no layers/spliced; .*X \(the default\), raw/X"):
        hr.open_h5ad(path, modality="rna", layer="spliced")
    one = muon(tmp_path / "one.h5mu", rna=modality(7))
    assert hr.open_h5ad(one).modality == "rna"
    plain = tmp_path / "x.h5ad"
    modality(7).write_h5ad(plain)
    with pytest.raises(hr.InputError, match=r"modality='rna' is for .h5mu files"):
        hr.open_h5ad(plain, modality="rna")
    with pytest.raises(hr.InputError, match=r"hr.open_h5ad\(.*\) reads its modalities"):
        hr.open_10x(path)
    with pytest.raises(hr.InputError, match=r"is a MuData file \(.h5mu\), no table: hr.open_h5ad"):
        hr.open_counts(path)


def test_the_command_line_reads_a_modality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = muon(tmp_path / "x.h5mu", rna=modality(7), adt=modality(3)), tmp_path / "out.h5ad"
    assert main(["export", "--h5ad", str(path), "--out", str(out)]) == 1
    assert "say which: --modality adt or --modality rna" in capsys.readouterr().err
    assert main(["export", "--h5ad", str(path), "--modality", "adt", "--counts", "int32", "--out", str(out)]) == 0
    assert anndata.read_h5ad(out).X.dtype == np.int32
    assert anndata.read_h5ad(out).shape == (12, 3)
