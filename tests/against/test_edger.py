"""Factors, rates and filters are edgeR's (and DESeq2's), on published counts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.errors import InputError
from headrace.sources.arrays import ArraySource
from headrace.stats import rates
from headrace.stats.libraries import Settings, norm_factors

SETS = [
    "airway",
    "cheung",
    "fission",
    "gtex_lung_chr21",
    "li_prostate",
    "mammary_gse60450",
    "marioni",
    "pasilla",
    "sultan",
]
EDGE = "data/expected/edger/edge_cases.json"
NUMBERS = {"NA": np.nan, "NaN": np.nan, "Inf": np.inf, "-Inf": -np.inf}


def counts_of(shared: Path, name: str) -> pd.DataFrame:
    """Samples x genes."""
    return pd.read_csv(shared / "data/bulk" / f"{name}.counts.csv.gz", index_col=0).T


def table(shared: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(shared / "data/expected/edger" / name, index_col=0, float_precision="round_trip")


def variants(first: str) -> dict[str, Settings]:
    return {
        "TMM": Settings(),
        "TMMwsp": Settings("TMMwsp"),
        "RLE": Settings("RLE"),
        "upperquartile": Settings("upperquartile"),
        "TMM_noweight": Settings(do_weighting=False),
        "TMM_trim20_10": Settings(logratio_trim=0.2, sum_trim=0.1),
        "TMM_ref1": Settings(ref_column=first),
        "TMM_acut10": Settings(acutoff=-10),
        "UQ_p50": Settings("upperquartile", p=0.5),
        "TMMwsp_ref1": Settings("TMMwsp", ref_column=first),
        "deseq2_ratio": Settings("ratio"),
        "deseq2_poscounts": Settings("poscounts"),
    }


@pytest.mark.parametrize("name", SETS)
def test_factors_are_edgers(shared: Path, name: str) -> None:
    counts, expected = counts_of(shared, name), table(shared, f"{name}.norm_factors.csv.gz")
    np.testing.assert_array_equal(counts.sum(axis=1), expected["lib.size"])
    for variant, settings in variants(counts.index[0]).items():
        got = norm_factors(counts, settings)
        column = "size_factors" if variant.startswith("deseq2") else "norm_factors"
        np.testing.assert_allclose(got[column], expected[variant], rtol=1e-12, err_msg=variant)
    cpm = counts.to_numpy() / counts.sum(axis=1).to_numpy()[:, None] * 1e6
    filtered = norm_factors(counts.loc[:, (cpm > 0.5).sum(axis=0) >= 2])
    np.testing.assert_array_equal(filtered["libsize"], expected["filtered_lib.size"])
    np.testing.assert_allclose(filtered["norm_factors"], expected["filtered_TMM"], rtol=1e-12)


@pytest.mark.parametrize("name", ["cheung", "marioni"])
def test_genes_with_a_length(shared: Path, name: str) -> None:
    cut = ".lengthgenes" if name == "cheung" else ""  # all genes of marioni have a length
    counts = counts_of(shared, name)
    genes = pd.read_csv(shared / "data/bulk" / f"{name}.genes.csv.gz", index_col=0)
    lengths = genes["length"].reindex(counts.columns)
    expected = table(shared, f"{name}{cut}.norm_factors.csv.gz")
    counts, lengths = counts.loc[:, lengths.notna()], lengths.dropna().to_numpy(float)
    got = norm_factors(counts)
    np.testing.assert_allclose(got["norm_factors"], expected["TMM"], rtol=1e-12)
    X, sizes, effective = as_csr(counts), got["libsize"].to_numpy(), got["effective_libsize"].to_numpy()
    compare(rates.rpkm(X, sizes, lengths), counts, table(shared, f"{name}.rpkm_raw{cut}.sample500.csv.gz"))
    compare(rates.rpkm(X, effective, lengths), counts, table(shared, f"{name}.rpkm_tmm{cut}.sample500.csv.gz"))
    compare(rates.tpm(X, lengths), counts, table(shared, f"{name}.tpm_raw{cut}.sample500.csv.gz"))


@pytest.mark.parametrize("name", SETS)
def test_rates_are_edgers(shared: Path, name: str) -> None:
    counts = counts_of(shared, name)
    found = norm_factors(counts)
    sizes, effective = found["libsize"].to_numpy(), found["effective_libsize"].to_numpy()
    X = as_csr(counts)
    compare(rates.cpm(X, sizes), counts, table(shared, f"{name}.cpm_raw.sample500.csv.gz"))
    compare(rates.cpm(X, effective), counts, table(shared, f"{name}.cpm_tmm.sample500.csv.gz"))
    for file, used, prior in (
        ("logcpm_tmm_prior2", effective, 2),
        ("logcpm_tmm_prior0.5", effective, 0.5),
        ("logcpm_raw_prior2", sizes, 2),
    ):
        got = rates.log_cpm(X, used, used.mean(), prior)
        compare(got, counts, table(shared, f"{name}.{file}.sample500.csv.gz"))


def test_edge_cases(shared: Path) -> None:
    cases = json.loads((shared / EDGE).read_text())
    assert len(cases) == 17
    for name, case in cases.items():
        counts = np.array(case["counts"], dtype=float).T
        for method in ("TMM", "TMMwsp", "RLE", "upperquartile", "none", "TMM_noweight"):
            expected = case[method]["value"]
            settings = Settings(do_weighting=False) if method == "TMM_noweight" else Settings(method)  # type: ignore[arg-type] # one of them
            if isinstance(expected, str):
                assert expected.startswith("ERROR")
                with pytest.raises(InputError, match="have no counts at all"):
                    norm_factors(counts, settings)
                continue
            listed = expected if isinstance(expected, list) else [expected]
            wanted = np.array([NUMBERS.get(value, value) for value in listed], dtype=float)
            got = norm_factors(counts, settings)["norm_factors"].to_numpy()
            np.testing.assert_allclose(got, wanted, rtol=1e-12, err_msg=f"{name} {method}")


@pytest.mark.parametrize("name", ["zero_column", "two_zero_columns", "all_zero"])
def test_samples_without_counts_have_no_rates(shared: Path, name: str) -> None:
    case = json.loads((shared / EDGE).read_text())[name]
    assert str(case["cpm"]).startswith("ERROR")
    source = held(np.array(case["counts"]).T)
    for step in (hr.CPM(), hr.LogCPM()):
        with pytest.raises(InputError, match="has a library size of 0"):
            hr.Plan(source, [step]).to_anndata()
    zeros = hr.Plan(source, hr.recipes.cpm()).to_anndata()
    empty = zeros.obs["libsize"] == 0
    assert empty.any()
    assert not zeros.X[empty.to_numpy()].nnz
    assert np.isfinite(zeros.X.data).all()


def test_edge_case_rates(shared: Path) -> None:
    compared = 0
    for name, case in json.loads((shared / EDGE).read_text()).items():
        if isinstance(case["cpm"], str):
            continue
        counts = np.array(case["counts"], dtype=float).T
        X, sizes = sparse.csr_array(counts), counts.sum(axis=1)
        got = {
            "cpm": rates.cpm(X, sizes).toarray(),
            "cpm_log2": rates.log_cpm(X, sizes, sizes.mean(), 2),
            "cpm_log2_prior05": rates.log_cpm(X, sizes, sizes.mean(), 0.5),
        }
        for what, values in got.items():
            np.testing.assert_allclose(values.T, np.array(case[what]), rtol=1e-10, err_msg=f"{name} {what}")
            compared += 1
    assert compared == 3 * 14


def test_a_step_refuses_what_edger_leaves_as_nan(shared: Path) -> None:
    cases = json.loads((shared / EDGE).read_text())
    for name, method, words in (
        ("sparse", "RLE", "no gene is above zero in all 5 samples"),
        ("near_empty_column", "upperquartile", "the 0.75-quantile is zero"),
        ("zero_column", "ratio", "have no counts at all"),
    ):
        source = held(np.array(cases[name]["counts"]).T)
        with pytest.raises(InputError, match=words):
            hr.Plan(source, [hr.NormFactors(method)]).to_anndata()  # type: ignore[arg-type] # one of them


@pytest.mark.parametrize(
    ("file", "method"),
    [("tmm_factors", "TMM"), ("uq_factors", "upperquartile")],
)
def test_published_rnanorm(shared: Path, file: str, method: Any) -> None:
    file = shared / f"data/expected/published/rnanorm_gtex.lung.30.chr21.{file}_edgeR.tsv"
    expected = pd.read_csv(file, sep="\t", comment="#", index_col=0)
    counts = counts_of(shared, "gtex_lung_chr21")
    got = norm_factors(counts, Settings(method))
    column = next(name for name in expected if expected[name].dtype.kind == "f" and "norm" in name.lower())
    np.testing.assert_allclose(got["norm_factors"], expected[column], rtol=1e-12)


def test_published_edgepython(shared: Path) -> None:
    folder = shared / "data/expected/published"
    expected = pd.read_csv(folder / "edgePython_mammary_R_norm_factors.csv", index_col=0)
    kept = pd.read_csv(folder / "edgePython_mammary_R_filtered_genes.csv.gz").iloc[:, 0].astype(str)
    counts = counts_of(shared, "mammary_gse60450")
    counts = counts.loc[:, counts.columns.astype(str).isin(set(kept))]
    got = norm_factors(counts)
    column = next(name for name in expected if "norm" in name.lower())
    np.testing.assert_allclose(got["norm_factors"], expected[column], rtol=1e-12)


@pytest.mark.parametrize(
    ("counts_file", "factors_file", "method"),
    [
        ("synthetic", "single_factor_r_test_size_factors", "ratio"),
        ("synthetic", "single_factor_r_test_size_factors_poscount", "poscounts"),
        ("wide", "wide_r_test_size_factors", "ratio"),
    ],
)
def test_published_pydeseq2(shared: Path, counts_file: str, factors_file: str, method: Any) -> None:
    folder = shared / "data/expected/published"
    counts = pd.read_csv(folder / f"pydeseq2_{counts_file}_test_counts.csv", index_col=0).T
    expected = pd.read_csv(folder / f"pydeseq2_{factors_file}.csv", index_col=0).iloc[:, 0]
    got = norm_factors(counts, Settings(method))["size_factors"]
    if method == "poscounts":  # by way of a DESeqDataSet, DESeq2 scales these to a geometric mean of 1
        got /= np.exp(np.log(got).mean())
    np.testing.assert_allclose(got, expected, rtol=1e-12)


FILTERS: dict[str, tuple[bool, bool, dict[str, float]]] = {
    "plain": (False, False, {}),
    "low": (False, False, {"min_count": 3, "min_total_count": 5}),
    "large": (False, False, {"large_n": 2, "min_prop": 0.5}),
    "tmm": (False, True, {}),
    "group": (True, False, {}),
    "group_tmm": (True, True, {}),
}
GROUPS = {
    "airway": "dex",
    "pasilla": "condition",
    "cheung": "gender",
    "marioni": "tissue",
    "fission": "strain",
    "mammary_gse60450": "CellTypeStatus",
    "li_prostate": "treatment",
}


@pytest.mark.parametrize("name", SETS)
def test_filter_by_expr(shared: Path, name: str) -> None:
    expected = (
        pd.read_csv(Path(__file__).parents[1] / "data/filter_by_expr.csv").set_index(["set", "variant"]).loc[name]
    )
    file = shared / "data/bulk" / f"{name}.counts.csv.gz"
    source = hr.open_counts(file)
    # edgeR's own sizes, to the bit: a gene that is exactly at the cutoff is kept or not by their last digit
    tmm_sizes = table(shared, f"{name}.norm_factors.csv.gz").eval("effective_libsize = `lib.size` * TMM")
    source_tmm = hr.open_counts(file, samples=source.obs.assign(effective_libsize=tmm_sizes["effective_libsize"]))
    for variant, row in expected.iterrows():
        grouped, tmm, more = FILTERS[str(variant)]
        step = hr.FilterByExpr(group=GROUPS[name] if grouped else None, **more)
        genes = hr.Plan(source_tmm if tmm else source, [step]).var().index
        ids = "".join(f"{gene}\n" for gene in genes)
        assert (len(genes), hashlib.md5(ids.encode()).hexdigest()) == (row["n"], row["md5"]), variant


def as_csr(counts: pd.DataFrame) -> sparse.csr_array:
    return sparse.csr_array(counts.to_numpy(dtype=float))


def compare(got: Any, counts: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare samples x genes with genes x samples."""
    dense = got.toarray() if sparse.issparse(got) else got
    at = pd.Index(counts.columns.astype(str)).get_indexer(expected.index.astype(str))
    assert (at >= 0).all()
    np.testing.assert_allclose(dense[:, at].T, expected.to_numpy(), rtol=1e-10)


def held(counts: Any) -> Any:
    n_obs, n_vars = counts.shape
    obs = pd.DataFrame(index=[f"s{at}" for at in range(n_obs)])
    return ArraySource(counts, obs, pd.DataFrame(index=[f"g{at}" for at in range(n_vars)]))
