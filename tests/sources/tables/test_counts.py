"""Tables of counts: in, told apart, refused with the place named, and out again."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.errors import CountsError, InputError, OutputError, RoundedCountsWarning
from headrace.testing import genes as gene_table

GENES = ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419", "ENSG00000000457"]
TABLE = pd.DataFrame([[5, 0, 3], [0, 0, 7], [2, 9, 1], [1, 1, 1]], index=GENES, columns=["a", "b", "c"])


def changed(row: int, column: int, value: float) -> pd.DataFrame:
    values = TABLE.to_numpy(float).copy()
    values[row, column] = value
    return pd.DataFrame(values, TABLE.index, TABLE.columns)


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.txt", "t.counts.csv"])
@pytest.mark.parametrize("turned", [False, True])
def test_both_orientations_of_every_format(tmp_path: Path, name: str, turned: bool) -> None:
    table = TABLE.T if turned else TABLE
    path = tmp_path / name
    table.to_csv(path, sep="\t" if ".csv" not in name else ",")
    source = hr.open_counts(path)
    assert source.orientation == ("samples x genes" if turned else "genes x samples")
    assert source.reason == "by the names like gene ids"
    assert (source.obs.index.tolist(), source.var.index.tolist()) == (["a", "b", "c"], GENES)
    np.testing.assert_array_equal(source.X.toarray(), TABLE.T)
    assert source.provenance()["orientation"] == source.orientation


def test_how_the_orientation_is_told() -> None:
    plain = TABLE.set_axis([f"g{at}" for at in range(4)])
    assert hr.open_counts(plain).reason == "there are more genes than samples"
    assert hr.open_counts(plain.T).orientation == "samples x genes"
    few = plain.iloc[:2]
    samples = pd.DataFrame({"sex": ["f", "m", "f"]}, index=["a", "b", "c"])
    by_samples = hr.open_counts(few, samples=samples)
    assert (by_samples.orientation, by_samples.reason) == ("genes x samples", "by the ids of the sample table")
    assert by_samples.obs["sex"].tolist() == ["f", "m", "f"]
    genes = pd.DataFrame({"symbol": ["x", "y"]}, index=["g0", "g1"])
    by_genes = hr.open_counts(few, genes=genes)
    assert (by_genes.orientation, by_genes.reason) == ("genes x samples", "by the ids of the gene table")
    assert hr.open_counts(few).orientation == "samples x genes"  # 2 x 3, and nothing else to go by
    assert hr.open_counts(few, orientation="genes x samples").spec.n_vars == 2
    with pytest.raises(InputError, match="3 x 3 and its names do not tell"):
        hr.open_counts(plain.iloc[:3])
    with pytest.raises(InputError, match="orientation='wide'"):
        hr.open_counts(plain, orientation="wide")  # type: ignore[arg-type] # that is the point


def test_a_published_set_with_what_lies_beside_it(shared: Path) -> None:
    source = hr.open_counts(shared / "data/bulk/marioni.counts.csv.gz", lengths="length")
    assert source.orientation == "genes x samples"
    assert source.obs["tissue"].iloc[0] == "Kidney"
    assert (source.var["feature_length"] == source.var["length"]).all()
    made = hr.Plan(source, [hr.RPKM()]).to_anndata()
    expected = pd.read_csv(shared / "data/expected/edger/marioni.rpkm_raw.sample500.csv.gz", index_col=0)
    np.testing.assert_allclose(made[:, expected.index].X.T, expected, rtol=1e-6)


def test_r_headers_and_featurecounts(tmp_path: Path) -> None:
    r = hr.open_counts(written(tmp_path, 'a b\n"g1" 1 2\n"g2" 3 4\n"g3" 0 0\n'.replace(" ", "\t"), "r.tsv"))
    assert r.obs.index.tolist() == ["a", "b"]
    text = "# Program:featureCounts v2\nGeneid\tChr\tStart\tEnd\tStrand\tLength\ta.bam\tb.bam\n"
    text += "g1\tchr1;chr1\t1;5\t3;9\t+;+\t1200\t5\t0\ng2\tchrX\t7\t8\t-\t800\t1\t2\ng3\tchrX\t7\t8\t-\t900\t0\t2\n"
    source = hr.open_counts(written(tmp_path, text, "f.txt"))
    assert source.obs.index.tolist() == ["a.bam", "b.bam"]
    assert source.var["feature_length"].tolist() == [1200, 800, 900]
    assert source.var.loc["g1", "Chr"] == "chr1;chr1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",a,b\ng1,1,2\ng2,-3,4\ng3,1,1\n", "sample 'a', gene 'g2': -3 is no count"),
        (",a,b\ng1,1,2\ng2,,4\n", r"line 3, row 'g2', column 'a': the count is missing \(''\)"),
        (",a,b\ng1,1,NA\n", "line 2, row 'g1', column 'b': the count is missing"),
        (",a,b\ng1,1,2\ng2,5,x7\n", "line 3, row 'g2', column 'b': 'x7' is no number"),
        (",a,b\ng1,1,2\ng2,5\n", "line 3, row 'g2': 2 fields instead of 3"),
        (",a,b\ng1,1,2\ng2,5,6,7\n", "line 3, row 'g2': 4 fields instead of 3"),
        (",a,b,a\ng1,1,2,3\n", "column 'a' comes 2 times"),
        (",a,b\ng1,1,2\ng2,1,2\ng1,1,2\n", "the ids of genes are not unique: 'g1' comes more than once, at 1, 3"),
        (",a,b\ng1,1,inf\n", "inf is no count"),
        (",a,b\n", "a header and nothing else"),
        ("", "is empty"),
        ("abc\ndef\n", "one column only"),
    ],
)
def test_what_is_no_table_of_counts(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hr.open_counts(written(tmp_path, text), orientation="genes x samples")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        hr.open_counts(tmp_path / "none.csv")
    path = tmp_path / "broken.csv.gz"
    path.write_bytes(gzip.compress(b",a,b\ng1,1,2\n" * 1000)[:50])
    with pytest.raises(InputError, match="cannot be read"):
        hr.open_counts(path)
    (tmp_path / "latin.csv").write_bytes(b",\xe4,b\ng1,1,2\n")
    with pytest.warns(hr.TextEncodingWarning, match="line 1"):
        source = hr.open_counts(tmp_path / "latin.csv", orientation="genes x samples")
    assert source.obs.index.tolist() == ["ä", "b"]


def test_frames_in_memory_are_checked_too() -> None:
    for value, words in (("x", "'x' is no count"), (np.nan, "nan is no count"), (None, "is no count")):
        frame = TABLE.astype(object)
        frame.loc[GENES[2], "b"] = value
        with pytest.raises(CountsError, match=f"row '{GENES[2]}', column 'b': .*{words}"):
            hr.open_counts(frame)
    with pytest.raises(InputError, match="ids of samples are not unique: 'a'"):
        hr.open_counts(TABLE.set_axis(["a", "b", "a"], axis=1))
    with pytest.raises(InputError, match="not list"):
        hr.open_counts([[1, 2]])


def test_expected_counts_are_taken_with_a_warning() -> None:
    with pytest.warns(hr.FractionalCountsWarning, match=r"1 counts are not whole, e.g. 2.5 in sample 'b', gene"):
        source = hr.open_counts(changed(0, 1, 2.5))
    made = hr.Plan(source, [hr.NormalizeTotal(1e6)]).to_anndata()  # which needs counts, and was told
    np.testing.assert_allclose(made.X.sum(axis=1), 1e6, rtol=1e-6)
    with pytest.warns(hr.FractionalCountsWarning, match="may be logarithms"):
        hr.open_counts(np.log1p(TABLE))


def test_counts_beyond_float32_are_said() -> None:
    with pytest.warns(RoundedCountsWarning, match=f"16777217 in sample 'a', gene '{GENES[1]}'"):
        hr.open_counts(changed(1, 0, 2**24 + 1))


def test_anndata_in_memory_and_on_disk(tmp_path: Path) -> None:
    adata = anndata.AnnData(sparse.csr_matrix(TABLE.T.to_numpy(np.float32)), TABLE.T.iloc[:, :0], TABLE.iloc[:, :0])
    adata.obs["sex"] = pd.Categorical(["f", "m", "f"])
    adata.write_h5ad(tmp_path / "x.h5ad")
    for source in (
        hr.open_counts(adata),
        hr.open_counts(tmp_path / "x.h5ad"),
        hr.open_counts(str(tmp_path / "x.h5ad")),
    ):
        np.testing.assert_array_equal(source.X.toarray(), TABLE.T)
        assert source.obs["sex"].tolist() == ["f", "m", "f"]
        assert source.orientation == "samples x genes"
    with pytest.raises(InputError, match="an AnnData is samples x genes"):
        hr.open_counts(adata, orientation="genes x samples")


def test_annotations_that_do_not_fit() -> None:
    samples = pd.DataFrame({"sex": ["f", "m"]}, index=["a", "b"])
    with pytest.warns(hr.AnnotationWarning, match="1 of 3 samples are not in the table that describes them, e.g. 'c'"):
        source = hr.open_counts(TABLE, samples=samples)
    assert source.obs["sex"].isna().tolist() == [False, False, True]
    with pytest.raises(InputError, match=r"none of 3 samples .* did you mean 'a1'"):
        hr.open_counts(TABLE, samples=samples.set_axis(["a1", "x"]), orientation="genes x samples")
    with pytest.raises(InputError, match="not unique: 'a'"):
        hr.open_counts(TABLE, samples=samples.set_axis(["a", "a"]))
    with pytest.raises(InputError, match=r"there is no file nowhere\.csv"):
        hr.open_counts(TABLE, samples="nowhere.csv")


def test_lengths_by_ensembl_id(demo_census: Path) -> None:
    table = gene_table("homo_sapiens")
    ids = table.index[:4]
    counts = TABLE.set_axis([f"{name}.7" for name in ids])
    wanted = table.loc[ids, "feature_length"].tolist()
    for lengths in (table, table["feature_length"], table.reset_index()):
        assert hr.open_counts(counts, lengths=lengths).var["feature_length"].tolist() == wanted
    query = hr.open_census(demo_census).query("homo_sapiens", genes="all", primary_only=True)
    known = query.spec.var
    counts = TABLE.set_axis([f"{known.index[0]}.2", known.index[1], "ENSG99999999999", known.index[3]])
    got = hr.open_counts(counts, lengths=query).var["feature_length"]
    assert got.isna().tolist() == [False, False, True, False]
    assert got.dropna().tolist() == known["feature_length"].iloc[[0, 1, 3]].tolist()
    with pytest.raises(InputError, match="none of 4 genes is in the table"):
        hr.open_counts(TABLE.set_axis(list("wxyz")), lengths=table)
    with pytest.raises(InputError, match="no such column"):
        hr.open_counts(TABLE, lengths="length")


NAMES = ["a,b", 'say "hi"', "naïve 細胞", "two\nlines", "tab\there", " space ", "NA", "1.0", "#hash", "it's;"]


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.tsv", "out.counts.tsv.gz"])
@pytest.mark.parametrize("dense", [False, True])
def test_what_is_written_can_be_read(tmp_path: Path, name: str, dense: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(3, (len(NAMES), 25)).astype(float)
    genes = [*NAMES, *(f"g{at}" for at in range(15))]
    obs = pd.DataFrame({"condition": pd.Categorical(NAMES), "age": np.arange(len(NAMES)) / 3}, index=NAMES)
    source = hr.open_counts(anndata.AnnData(values, obs, pd.DataFrame({"symbol": genes}, index=genes)))
    steps = [hr.LogCPM()] if dense else []
    expected = hr.Plan(source, steps).to_anndata()
    hr.Plan(source, steps).write(hr.Table(tmp_path / name))
    if dense:
        with pytest.warns(hr.FractionalCountsWarning):
            back = hr.open_counts(tmp_path / name)
    else:
        back = hr.open_counts(tmp_path / name)
    assert back.orientation == "genes x samples"
    assert (back.obs.index.tolist(), back.var.index.tolist()) == (NAMES, genes)
    np.testing.assert_array_equal(back.X.toarray(), expected.X, strict=True)
    assert back.obs["condition"].tolist()[:6] == NAMES[:6]
    np.testing.assert_array_equal(back.obs["age"], obs["age"])


def test_the_same_bytes_and_nothing_half_written(tmp_path: Path) -> None:
    source = hr.open_counts(TABLE)
    for name in ("x", "y"):
        hr.Plan(source).write(hr.Table(tmp_path / f"{name}.csv.gz"))
    assert (tmp_path / "x.csv.gz").read_bytes() == (tmp_path / "y.csv.gz").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        hr.Plan(source).write(hr.Table(tmp_path / "x.csv.gz"))
    hr.Plan(source).write(hr.Table(tmp_path / "x.csv.gz", overwrite=True))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError):
        hr.Plan(source, [hr.SaveLayer("a"), hr.FilterByExpr(min_count=1e9)]).write(
            hr.Table(tmp_path / "z.csv", layer="a")
        )
    with pytest.raises(InputError, match="no such layer"):
        hr.Plan(source).write(hr.Table(tmp_path / "z.csv", layer="a"))
    with pytest.raises(InputError, match=r"ends in \.csv"):
        hr.Table(tmp_path / "z.xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_layer_is_written_in_whole_numbers(tmp_path: Path) -> None:
    steps = [hr.SaveLayer("counts"), hr.NormFactors(), hr.LogCPM()]
    hr.Plan(hr.open_counts(TABLE), steps).write(hr.Table(tmp_path / "c.csv", layer="counts"))
    assert (tmp_path / "c.csv").read_text().splitlines()[1] == f'"{GENES[0]}",5,0,3'
    back: Any = hr.open_counts(tmp_path / "c.csv")
    assert {"libsize", "norm_factors", "effective_libsize"} <= set(back.obs)
