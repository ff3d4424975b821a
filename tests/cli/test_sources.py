"""Where cells come from, as the command line says it."""

from __future__ import annotations

import shlex
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from headrace.cli import main
from tests.conftest import LIVER
from tests.somaio import from_anndata


@pytest.fixture
def adata() -> ad.AnnData:
    X = sparse.random(
        30, 12, 0.4, "csr", np.float32, np.random.default_rng(0), data_rvs=lambda n: np.arange(1.0, n + 1)
    )
    obs = pd.DataFrame({"kind": ["a", "b", "c"] * 10}, index=[f"cell{i}" for i in range(30)])
    names = ["A", "B", "A", *(f"N{j}" for j in range(3, 12))]
    return ad.AnnData(X, obs=obs, var=pd.DataFrame({"feature_name": names}, index=[f"E{j}" for j in range(12)]))


@pytest.fixture
def experiment(adata: ad.AnnData, tmp_path: Path) -> Path:
    from_anndata(str(tmp_path / "e"), adata, "GEX", X_layer_name="umis")
    return tmp_path / "e"


def export(arguments: str, out: Path) -> ad.AnnData:
    assert main(["export", *shlex.split(arguments), "--out", str(out)]) == 0
    return ad.read_h5ad(out)


def symbols(names: pd.Series) -> list[str]:
    """Names as anndata makes them unique."""
    theirs = ad.AnnData(np.zeros((1, len(names))), var=pd.DataFrame(index=names.astype(str).tolist()))
    theirs.var_names_make_unique()
    return list(theirs.var_names)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_a_soma_experiment_is_exported(
    experiment: Path, adata: ad.AnnData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = f"--soma {experiment} --measurement GEX --layer-in umis --var-names feature_name"
    assert main(["explain", *flags.split()]) == 0
    assert "30 cells x 12 genes" in capsys.readouterr().out
    ours = export(flags + " --obs-filter \"kind == 'b'\"", tmp_path / "out.h5ad")
    theirs = adata[adata.obs["kind"] == "b"]
    np.testing.assert_array_equal(ours.X.toarray(), theirs.X.toarray())
    assert list(ours.var_names) == symbols(adata.var["feature_name"])
    assert list(ours.var["feature_id"]) == list(adata.var_names)

    (tmp_path / "genes.txt").write_text("E3\nE1\n")
    ours = export(f"{flags} --genes {tmp_path / 'genes.txt'}", tmp_path / "two.h5ad")
    np.testing.assert_array_equal(ours.X.toarray(), adata[:, ["E1", "E3"]].X.toarray())


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_symbols_of_a_file_and_of_a_census(adata: ad.AnnData, demo_census: Path, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "in.h5ad")
    ours = export(f"--h5ad {tmp_path / 'in.h5ad'} --var-names feature_name", tmp_path / "a.h5ad")
    assert list(ours.var_names) == symbols(adata.var["feature_name"])
    census = f"--census {demo_census} --organism mus_musculus --dataset-id {LIVER}"
    ours = export(f"{census} --var-names feature_name", tmp_path / "b.h5ad")
    assert list(ours.var_names) == symbols(ours.var["feature_name"])
    assert ours.var["feature_id"].str.startswith("ENSMUSG").all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "Missing option '--census'"),
        ("--soma x --h5ad y", "--soma and --h5ad all say where cells come from; give one"),
        ("--soma x --organism y", "--organism: for a Census (--census)"),
        ("--soma x --raw", "--raw: for a file (--h5ad)"),
        ("--soma x --genes any", "--genes any: a rule for --census"),
        ("--h5ad x --measurement RNA", "--measurement: for a SOMA experiment (--soma)"),
        ("--tenx x --var-index ids", "--var-index: for a SOMA experiment (--soma) or a file (--h5ad)"),
        ("--tenx x --modality rna", "--modality: for a file (--h5ad)"),
        ("--census x --organism y --genome z", "--genome: for 10x files (--tenx)"),
    ],
)
def test_what_does_not_fit_the_source_is_named(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments.split()]) == 2
    assert says in capsys.readouterr().err


def test_a_wrong_name_is_said_as_an_option(
    experiment: Path, adata: ad.AnnData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--soma", str(experiment)]) == 1
    assert "'RNA'" in capsys.readouterr().err
    adata.write_h5ad(tmp_path / "in.h5ad")
    assert main(["explain", "--h5ad", str(tmp_path / "in.h5ad"), "--var-names", "feature_nam"]) == 1
    assert "--var-names feature_nam: var of" in capsys.readouterr().err
