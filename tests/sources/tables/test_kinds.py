"""More of what people have: each case is one of a kind that went wrong, or was named for what it is not."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.errors import CountsError, InputError
from tests.sources.tables.test_programs import zipped

NAMES = ["g1", "g2", "__no_feature"]


def put(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("on_disk", [False, True])
def test_summary_rows_of_an_anndata(tmp_path: Path, kind: type, on_disk: bool) -> None:
    """CPM of 60 and 40 counts is 600,000 and 400,000, whatever `__no_feature` has."""
    X = kind(np.array([[60, 40, 900], [1, 3, 5]], np.float32))
    adata = anndata.AnnData(X, pd.DataFrame({"sex": ["f", "m"]}, index=["a", "b"]), pd.DataFrame(index=NAMES))
    adata.write_h5ad(tmp_path / "x.h5ad")
    with pytest.warns(hr.SummaryRowsWarning, match=r"__no_feature \(905\)"):
        source = hr.open_counts(tmp_path / "x.h5ad" if on_disk else adata)
    made = hr.Plan(source, [hr.CPM()]).to_anndata()
    assert made.X.tolist() == [[600_000, 400_000], [250_000, 750_000]]
    assert made.obs["__no_feature"].tolist() == [900, 5]
    assert made.obs["sex"].tolist() == ["f", "m"]


@pytest.mark.parametrize("packed", [False, True])
def test_unmapped_reads_of_cite_seq_count(tmp_path: Path, packed: bool) -> None:
    texts = {
        "matrix.mtx": "%%MatrixMarket matrix coordinate integer general\n3 2 5\n1 1 5\n2 1 2\n3 1 90\n1 2 1\n3 2 7\n",
        "features.tsv": "CD3-ACGT\nCD4-TTTT\nunmapped\n",
        "barcodes.tsv": "AAA\nCCC\n",
    }
    for name, text in texts.items():
        put(tmp_path / (name + ".gz" * packed), gzip.compress(text.encode()) if packed else text)
    with pytest.warns(hr.SummaryRowsWarning, match="summary, and are left out: unmapped"):
        source = hr.open_10x(tmp_path)
    made = hr.Plan(source).to_anndata()
    assert (made.var_names.tolist(), made.X.toarray().tolist()) == (["CD3-ACGT", "CD4-TTTT"], [[5, 2], [1, 0]])
    assert made.obs["unmapped"].tolist() == [90, 7]
    assert source.left_out == {}


@pytest.mark.parametrize("what", ["gene", "sample"])
def test_a_nul_in_a_name_is_refused(tmp_path: Path, what: str) -> None:
    genes, samples = ["ENSG00000000001", "ENSG00000000002"], ["s1", "s2"]
    (genes if what == "gene" else samples)[1] += "\0x"
    table = pd.DataFrame([[1, 2], [3, 4]], index=genes, columns=samples)
    table.to_parquet(tmp_path / "x.parquet")
    adata = anndata.AnnData(table.T.astype(np.float32))
    for given in (table, tmp_path / "x.parquet", adata):
        with pytest.raises(InputError, match=rf"{what} '.*\\x00x' has a NUL"):
            hr.open_counts(given)
    for path in ("a\0b", ["a\0b", "c"], {"s": "a\0b"}):
        with pytest.raises(InputError, match=r"'a\\x00b': no path has a NUL"):
            hr.open_counts(path)


def test_a_first_row_with_a_missing_count_is_no_header(tmp_path: Path) -> None:
    for missing in ("NA", "nan", "-"):
        with pytest.raises(CountsError, match="line 1, row 'g1', column '1': the count is missing"):
            hr.open_counts(put(tmp_path / "s.tsv", f"g1\t{missing}\ng2\t6\ng3\t7\n"))


def test_strandedness_is_used_or_refused(tmp_path: Path) -> None:
    body = "ENSG1\t60\t30\t31\nENSG2\t40\t20\t21\n"
    path = put(tmp_path / "w_ReadsPerGene.out.tab", body)  # the first four rows were cut off, as many do
    with pytest.raises(InputError, match="unstranded 100, forward 50, reverse 52"):
        hr.open_counts(path)
    for name in ("w_ReadsPerGene.out.tab", "w.tsv"):
        source = hr.open_counts(put(tmp_path / name, body), strandedness="forward")
        assert (source.obs.index.tolist(), source.X.toarray().tolist()) == (["w"], [[30, 20]])
    for text in ("gene\ta\tb\ng1\t60\t30\ng2\t40\t20\ng3\t1\t1\n", "g1\t60\ng2\t40\n"):
        with pytest.raises(InputError, match="strandedness='forward' chooses a column of STAR's, but"):
            hr.open_counts(put(tmp_path / "m.tsv", text), strandedness="forward")


def test_what_excel_writes_first_is_the_separator(tmp_path: Path) -> None:
    for first in ("sep=;\n", '"sep=;"\r\n'):
        with pytest.warns(hr.FractionalCountsWarning):
            source = hr.open_counts(put(tmp_path / "x.csv", first + "gene;s1;s2\ng1;1,5;2\ng2;3;4\ng3;5;6\n"))
        assert source.X.toarray().tolist() == [[1.5, 3, 5], [2, 4, 6]]


def test_numbers_that_describe_genes(tmp_path: Path) -> None:
    text = "gene,{},s1,s2\ng1,{},5,6\ng2,{},1,0\ng3,{},1,0\n"
    for name in ("GC", "percentage_gene_gc_content", "gene_length", "median_length", "exon_count", "GC%"):
        source = hr.open_counts(
            put(tmp_path / "x.csv", text.format(name, 0.5, 0.25, 0.75)), orientation="genes x samples"
        )
        assert (source.obs.index.tolist(), source.var[name].tolist()) == (["s1", "s2"], [0.5, 0.25, 0.75])
    for names, first in (("baseMean,padj", "3.5,0.1"), ("logFC,PValue", "-1.5,0.1"), ("log2FoldChange,lfcSE", "-2,1")):
        table = put(tmp_path / "x.csv", text.format(names, first, first, first))
        source = hr.open_counts(table, orientation="genes x samples")
        assert (source.obs.index.tolist(), list(source.var)) == (["s1", "s2"], names.split(","))


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        made.addfile(tarfile.TarInfo("counts.tsv"))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(gzip.compress(b"gene\ts1\n")), "packed twice by gzip"),
        (tar(), "a tar archive; unpack it"),
        (zipped(mimetype="application/vnd.oasis.opendocument.spreadsheet"), r"LibreOffice \(.ods\)"),
        (gzip.compress(b"BAM\x01" + bytes(range(200))), "a BAM file"),
        (b">chr1\nACGT\n", "a FASTA file"),
        (b'{"a": [1, 2]}', "is JSON"),
        (b"SQLite format 3\0" + bytes(100), "a SQLite file"),
        (b"\x04\x22\x4d\x18" + bytes(range(100)), "compressed by lz4"),
        (b"\x80\x04\x95" + bytes(20), "a pickle of Python"),
    ],
    ids=["gzip", "tar", "ods", "bam", "fasta", "json", "sqlite", "lz4", "pickle"],  # what is packed has the time in it
)
def test_files_are_named_for_what_they_are(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hr.open_counts(put(tmp_path / "x", data))


def test_folders_are_named_for_what_they_are(tmp_path: Path) -> None:
    for name, words in (
        ("a/.zgroup", "a Zarr store"),
        ("b/zarr.json", "a Zarr store"),
        ("c/__group/x", "hr.open_soma reads the SOMA experiment"),
        ("d/matrix.mtx.gz", r"hr.open_10x\(.*\) reads it"),
        ("e/GSM1_matrix.mtx", r"hr.open_10x\(.*\) reads it"),
    ):
        put(tmp_path / name, "{}")
        with pytest.raises(InputError, match=words):
            hr.open_counts(tmp_path / name[0])
    with pytest.raises(InputError, match="'s1' has no path, but list"):
        hr.open_counts({"s1": [1, 2]})
