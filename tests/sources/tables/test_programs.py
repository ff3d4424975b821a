"""Tables as programs and spreadsheets write them: each value is what the file says, or what tximport defines."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import random
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace as hr
from headrace.cli import main
from headrace.errors import CountsError, HeadraceError, InputError, OutputError
from headrace.sources.tables.layout import is_corner
from headrace.sources.tables.numerals import is_missing, is_number

HTSEQ = "g1\t60\ng2\t40\n__no_feature\t900\n__ambiguous\t5\n"
STAR = "N_unmapped\t5\t5\t5\nN_multimapping\t1\t1\t1\nN_noFeature\t3\t4\t5\nN_ambiguous\t0\t0\t0\ng1\t60\t30\t31\ng2\t40\t20\t21\n"
TABLE = "gene\ts1\ts2\ng1\t1\t2\ng2\t3\t4\ng3\t5\t6\n"
GCT = "#1.3\n2\t2\t1\t1\nid\tsym\ta\tb\nsex\tna\tm\tf\nE1\tX\t1\t2\nE2\tY\t4\t5\n"
SALMON = "Name\tLength\tEffectiveLength\tTPM\tNumReads\n"


def put(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_summary_rows_are_no_genes(tmp_path: Path) -> None:
    with pytest.warns(hr.SummaryRowsWarning, match=r"__no_feature \(900\), __ambiguous \(5\)"):
        source = hr.open_counts(put(tmp_path / "s7.htseq.txt", HTSEQ))
    made = hr.Plan(source, [hr.CPM()]).to_anndata()
    assert made.X.tolist() == [[600_000, 400_000]]
    assert made.obs_names.tolist() == ["s7"]
    assert made.obs[["__no_feature", "__ambiguous"]].to_numpy().tolist() == [[900, 5]]
    old = "gene\ta\tb\ng1\t60\t1\ng2\t40\t2\nno_feature\t900\t4\ntoo_low_aQual\t1\t1\nnot_aligned\t1\t1\n"
    with pytest.warns(hr.SummaryRowsWarning, match="3 rows"):
        assert hr.open_counts(put(tmp_path / "o.txt", old)).var.index.tolist() == ["g1", "g2"]
    with pytest.warns(hr.SummaryRowsWarning):
        frame = hr.open_counts(pd.DataFrame({"a": [1, 2, 3]}, index=["g1", "g2", "__not_aligned"]))
    assert frame.obs["__not_aligned"].tolist() == [3]


def test_star_asks_for_the_strandedness(tmp_path: Path) -> None:
    path = put(tmp_path / "s1_ReadsPerGene.out.tab", STAR)
    with pytest.raises(InputError, match=r"unstranded 100, forward 50, reverse 52.*strandedness="):
        hr.open_counts(path)
    for strandedness, counts in (("unstranded", [60, 40]), ("forward", [30, 20]), ("reverse", [31, 21])):
        with pytest.warns(hr.SummaryRowsWarning):
            source = hr.open_counts(path, strandedness=strandedness)  # type: ignore[arg-type]
        assert (source.obs.index.tolist(), source.X.toarray().tolist()) == (["s1"], [counts])
    with pytest.raises(InputError, match="strandedness='sense'"):
        hr.open_counts(path, strandedness="sense")  # type: ignore[arg-type]
    put(tmp_path / "s2_ReadsPerGene.out.tab", STAR)
    with pytest.warns(hr.SummaryRowsWarning):
        both = hr.open_counts(tmp_path, strandedness="reverse")
    assert both.X.toarray().tolist() == [[31, 21], [31, 21]]


def test_commas_and_separators(tmp_path: Path) -> None:
    with pytest.warns(hr.FractionalCountsWarning):
        source = hr.open_counts(put(tmp_path / "a.csv", "gene;s1\ng1;1,5\ng2;2,5\n"))
    assert (source.var.index.tolist(), source.X.toarray().tolist()) == (["g1", "g2"], [[1.5, 2.5]])
    assert source.notes == ("separated by semicolons", "decimal commas")
    path = put(tmp_path / "b.csv", "gene;s1\ng1;1,500\ng2;2,500\n")
    with pytest.raises(InputError, match="decimal comma or thousands"):
        hr.open_counts(path)
    assert hr.open_counts(path, decimal=".").X.toarray().tolist() == [[1500, 2500]]
    path = put(tmp_path / "c.csv", 'g,s1,s2\ng1,"1,234,567",2\ng2,"2,500",3\ng3,0,0\n')
    assert hr.open_counts(path).X.toarray().tolist() == [[1234567, 2500, 0], [2, 3, 0]]
    with pytest.raises(InputError, match="three decimals or thousands"):
        hr.open_counts(put(tmp_path / "d.csv", "gene;s1\ng1;1.500\ng2;2.500\n"))
    with pytest.raises(InputError, match="may be a header or counts"):
        hr.open_counts(put(tmp_path / "e.csv", "locus9,1,2,3\ng1,4,5,6\ng2,1,1,1\n"))


def test_columns_that_describe_genes(tmp_path: Path) -> None:
    text = "gene_id\tgene_name\ts1\ts2\nENSG00000000003\tTSPAN6\t5\t6\nENSG00000000005\tTNMD\t1\t0\n"
    assert hr.open_counts(put(tmp_path / "nf.tsv", text)).var["gene_name"].tolist() == ["TSPAN6", "TNMD"]
    text = "#1.3\n2\t2\t1\t1\nid\tsym\ta\tb\nsex\tna\tm\tf\nENSG1\tX\t1\t2\nENSG2\tY\t4\t5\n"
    source = hr.open_counts(put(tmp_path / "x.gct", text))
    assert (source.obs["sex"].tolist(), source.var["sym"].tolist()) == (["m", "f"], ["X", "Y"])
    assert source.X.toarray().tolist() == [[1, 4], [2, 5]]
    text = "# gene-model: GENCODE v36\ngene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\ttpm_unstranded\n"
    text += "N_unmapped\t\t\t100\t100\t100\t\nENSG00000000003.15\tTSPAN6\tpc\t10\t4\t6\t1.5\nENSG00000000005.6\tTNMD\tpc\t1\t0\t1\t0.2\n"
    with pytest.warns(hr.SummaryRowsWarning):
        tcga = hr.open_counts(put(tmp_path / "u.augmented_star_gene_counts.tsv", text), strandedness="forward")
    assert (tcga.obs.index.tolist(), tcga.X.toarray().tolist()) == (["u"], [[4, 0]])
    with pytest.raises(InputError, match="cut off"):
        hr.open_counts(put(tmp_path / "y.gct", "#1.2\n3\t1\nName\tDescription\ta\nENSG1\tX\t1\nENSG2\tX\t1\n"))


def zipped(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        bz2.compress(TABLE.encode()),
        lzma.compress(TABLE.encode()),
        gzip.compress(TABLE.encode()),
        zipped(a=TABLE),
        TABLE.encode("utf-16"),
        TABLE.encode("utf-16-le"),
        TABLE.encode("utf-8-sig"),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("\n", "\r").encode(),
    ],
    ids=["bz2", "xz", "gzip", "zip", "utf-16", "utf-16-le", "utf-8-sig", "crlf", "cr"],  # gzip's bytes have the time
)
def test_packed_and_encoded(tmp_path: Path, data: bytes) -> None:
    source = hr.open_counts(put(tmp_path / "t.tsv", data))
    assert source.X.toarray().tolist() == [[1, 3, 5], [2, 4, 6]]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=pipe.write_bytes, args=(data,))
    thread.start()
    assert hr.open_counts(pipe).X.toarray().tolist() == [[1, 3, 5], [2, 4, 6]]
    thread.join()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(**{"[Content_Types].xml": ""}), "Excel file"),
        (zipped(a=TABLE, b=TABLE), "2 files"),
        (TABLE.replace("3", "5\x003").encode(), "line 3: there is a NUL byte"),
        (gzip.compress(bytes(10_000_000)), "NUL"),
        (b"\x89HDF\r\n\x1a\n123", "HDF5"),
    ],
)
def test_what_is_no_text(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hr.open_counts(put(tmp_path / "t.tsv", data))


def runs(folder: Path) -> None:
    put(
        folder / "s1/quant.sf",
        SALMON + "T1\t1000\t800\t10\t6\nT2\t500\t300\t30\t9\nT3\t700\t500\t60\t25\nT4\t400\t200\t0\t0\n",
    )
    put(
        folder / "s2/quant.sf",
        SALMON + "T1\t1000\t900\t0\t0\nT2\t500\t400\t0\t0\nT3\t700\t600\t100\t60\nT4\t400\t210\t0\t0\n",
    )
    put(folder / "t2g.tsv", "T1\tA\nT2\tA\nT3\tB\nT4\tC\n")


def test_transcripts_to_genes_as_tximport(tmp_path: Path) -> None:
    """Lengths: abundance-weighted means; where a sample has none of a gene, the geometric mean of the others; where none has, the
    plain mean (tximport's summarizeToGene, replaceMissingLength, makeCountsFromAbundance), by hand."""
    runs(tmp_path)
    source = hr.open_counts(tmp_path, tx2gene=tmp_path / "t2g.tsv")
    assert (source.obs.index.tolist(), source.var.index.tolist()) == (["s1", "s2"], ["A", "B", "C"])
    assert source.X.toarray().tolist() == [[15, 25, 0], [0, 60, 0]]
    a = (10 * 800 + 30 * 300) / 40  # 425; s2 has none of A, and takes it over
    length = np.array([[a, 500, 205], [a, 600, 205]])
    made = hr.Plan(source).to_anndata()
    np.testing.assert_allclose(made.layers["length"], length, rtol=1e-6)
    np.testing.assert_allclose(made.var["feature_length"], length.mean(axis=0))
    tpm = np.array([[40, 60, 0], [0, 100, 0]])
    scaled = hr.open_counts(tmp_path, genes=tmp_path / "t2g.tsv", counts_from_abundance="scaledTPM")
    np.testing.assert_allclose(scaled.X.toarray(), tpm * np.array([[40 / 100], [60 / 100]]), rtol=1e-6)
    assert scaled.lengths is None
    by_length = tpm * length.mean(axis=0)
    expected = by_length * (np.array([40, 60]) / by_length.sum(axis=1))[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hr.FractionalCountsWarning)
        got = hr.open_counts(tmp_path, tx2gene=tmp_path / "t2g.tsv", counts_from_abundance="lengthScaledTPM")
    np.testing.assert_allclose(got.X.toarray(), expected, rtol=1e-6)


def test_what_quantifiers_write(tmp_path: Path) -> None:
    runs(tmp_path)
    two = pd.Series({"T1": "A", "T3": "B"})
    with pytest.warns(hr.MissingTranscriptsWarning, match="2 of 4 transcripts .* their 9 counts"):
        assert hr.open_counts(tmp_path / "s1/quant.sf", tx2gene=two).X.toarray().tolist() == [[6, 25]]
    with pytest.raises(InputError, match="tx2gene has none of 4"):
        hr.open_counts(tmp_path, tx2gene=pd.Series({"X": "A"}))
    path = put(
        tmp_path / "k/abundance.tsv",
        "target_id\tlength\teff_length\test_counts\ttpm\nT1\t100\t50\t3\t5\nT2\t90\t40\t4\t6\n",
    )
    kallisto = hr.open_counts(path)
    assert (kallisto.obs.index.tolist(), kallisto.X.toarray().tolist()) == (["k"], [[3, 4]])
    text = "gene_id\ttranscript_id(s)\tlength\teffective_length\texpected_count\tTPM\tFPKM\nENSG1\tT1,T2\t100\t50.5\t3.00\t5\t6\nENSG2\tT3\t100\t50\t3.5\t5\t6\n"
    rsem = hr.open_counts(put(tmp_path / "r1.genes.results", text))
    assert (rsem.obs.index.tolist(), rsem.X.toarray().tolist()) == (["r1"], [[3, 3.5]])
    assert rsem.var["transcript_id(s)"].tolist() == ["T1,T2", "T3"]
    assert rsem.var["feature_length"].tolist() == [50.5, 50]
    with pytest.raises(InputError, match="files of RSEM are of genes already"):
        hr.open_counts(tmp_path / "r1.genes.results", tx2gene="gene_id")
    with pytest.raises(InputError, match="files of salmon do not say the genes"):
        hr.open_counts(tmp_path / "s1/quant.sf", tx2gene="gene_id")
    with pytest.raises(InputError, match="needs transcripts"):
        hr.open_counts(tmp_path / "r1.genes.results", counts_from_abundance="scaledTPM")


ISOFORMS = "transcript_id\tgene_id\tlength\teffective_length\texpected_count\tTPM\tFPKM\tIsoPct\n"


@pytest.mark.parametrize("how", ["no", "scaledTPM", "lengthScaledTPM"])
def test_isoforms_of_rsem_by_their_own_genes(how: Any, tmp_path: Path) -> None:
    rows = ["T1\tA\t1000\t800\t6\t10\t1\t25", "T2\tA\t500\t0.5\t9\t30\t1\t75", "T3\tB\t700\t500\t25\t60\t1\t100"]
    for sample in ("s1", "s2"):
        put(tmp_path / f"{sample}.isoforms.results", ISOFORMS + "\n".join(rows) + "\n")
    own = hr.open_counts(tmp_path, tx2gene="gene_id", counts_from_abundance=how)
    table = pd.DataFrame({"tx": ["T1", "T2", "T3"], "gene": ["A", "A", "B"]})
    by_table = hr.open_counts(tmp_path, tx2gene=table, counts_from_abundance=how)
    assert own.var.index.tolist() == ["A", "B"]
    np.testing.assert_array_equal(own.X.toarray(), by_table.X.toarray())
    if how == "no":
        assert own.X.toarray().tolist() == [[15, 25]] * 2
        length = (10 * 800 + 30 * 1) / 40  # tximport takes effective lengths below one base for one
        np.testing.assert_allclose(hr.Plan(own).to_anndata().layers["length"], [[length, 500]] * 2)
    out = tmp_path / "out.h5ad"
    assert main(["bulk", str(tmp_path), "--tx2gene", "gene_id", "--method", "none", "--out", str(out)]) == 0
    assert anndata.read_h5ad(out).X.tolist() == [[15, 25]] * 2


def test_frames_of_all_kinds() -> None:
    expected = [[1, 2, 3]]
    for frame in (
        pd.DataFrame({"s1": pd.array([1, 2, 3], dtype="Int64")}, index=["a", "b", "c"]),
        pd.DataFrame({"gene_id": ["a", "b", "c"], "gene_name": ["x", "x", "y"], "s1": [1, 2, 3]}),
        pd.DataFrame({"s1": [1, 2, 3]}, index=pd.MultiIndex.from_tuples([("x", "a"), ("x", "b"), ("y", "c")])),
    ):
        source = hr.open_counts(frame)
        assert (source.var.index.tolist(), source.X.toarray().tolist()) == (["a", "b", "c"], expected)
    with pytest.raises(CountsError, match="row 'b', column 's1'"):
        hr.open_counts(pd.DataFrame({"s1": pd.array([1, None, 3], dtype="Int64")}, index=["a", "b", "c"]))


def test_h5ad_with_logarithms_in_x(tmp_path: Path) -> None:
    import anndata

    adata = anndata.AnnData(np.log1p(np.array([[1.0, 2], [3, 0]], np.float32)))
    adata.layers["counts"] = np.array([[1.0, 2], [3, 0]], np.float32)
    adata.write_h5ad(tmp_path / "x.h5ad")
    for data in (adata, tmp_path / "x.h5ad"):
        with pytest.raises(CountsError, match="layer='counts'"):
            hr.open_counts(data)
        assert hr.open_counts(data, layer="counts").X.toarray().tolist() == [[1, 2], [3, 0]]
        with pytest.warns(hr.FractionalCountsWarning):
            hr.open_counts(data, holds="counts")
        with pytest.raises(InputError):
            hr.open_counts(data, layer="cuonts")


def test_nothing_is_written_over_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = put(tmp_path / "raw.tsv", TABLE)
    sheet = put(tmp_path / "raw.samples.tsv", "id\tsex\ns1\tf\ns2\tm\n")
    (tmp_path / "link.tsv").symlink_to(raw)
    os.link(sheet, tmp_path / "hard.csv")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("raw.tsv", "link.tsv", "hard.csv"):
        assert main(["bulk", str(raw), "--out", str(tmp_path / name), "--overwrite"]) == 1
        assert "is what this plan reads" in capsys.readouterr().err
    with pytest.raises(OutputError, match="is what this plan reads"):
        hr.Plan(hr.open_counts(raw)).write(hr.Table(raw, overwrite=True))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_tables_side_by_side_and_parquet(tmp_path: Path) -> None:
    first = hr.open_counts(
        pd.DataFrame({"s1": [1, 2, 3]}, index=["a", "b", "c"]), samples=pd.DataFrame({"n": [5]}, index=["s1"])
    )
    other = hr.open_counts(
        pd.DataFrame({"t1": [7, 8, 9]}, index=["a", "b", "c"]), samples=pd.DataFrame({"n": [6]}, index=["t1"])
    )
    for name in ("x.tsv.gz", "x.csv.gz", "x.tsv", "x.parquet", "x.counts.csv"):
        hr.Plan(other).write(hr.Table(tmp_path / name))
    hr.Plan(first).write(hr.Table(tmp_path / "x.csv"))
    for name, n, counts in (
        ("x.csv", 5, [1, 2, 3]),
        *((name, 6, [7, 8, 9]) for name in ("x.tsv.gz", "x.parquet", "x.counts.csv")),
    ):
        back = hr.open_counts(tmp_path / name)
        assert (back.obs["n"].tolist(), back.X.toarray().tolist()) == ([n], [counts])
    assert pd.read_parquet(tmp_path / "x.parquet")["t1"].to_dict() == {"a": 7, "b": 8, "c": 9}


PLAIN = st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))
AWKWARD = st.sampled_from(list(",;\t |#\"'.-_ NA0123456789éßµ\ufeff"))
NUMBERED = ["1\t5\t7", "2\t0\t1", "3\t4\t4", "10\t2\t9"]


@pytest.mark.parametrize("ids", [["1", "2", "3", "10"], ["7157", "672", "1956", "1e3"], ["細胞", "é", "µ", ":"]])
def test_a_first_row_of_numbers_is_data(tmp_path: Path, ids: list[str]) -> None:
    """Entrez numbers and other names say nothing of a header: a blank corner, or one such as "gene_id", does."""
    rows = [line.split("\t", 1)[1] for line in NUMBERED]
    body = "".join(f"{name}\t{row}\n" for name, row in zip(ids, rows, strict=True))
    expected = [[5, 0, 4, 2], [7, 1, 4, 9]]
    with pytest.warns(hr.UnnamedSamplesWarning, match="has no header"):
        plain = hr.open_counts(put(tmp_path / "t.tsv", body), orientation="genes x samples")
    assert (plain.var.index.tolist(), plain.X.toarray().tolist()) == (ids, expected)
    for corner in ("", "gene_id", "Geneid", "Hugo_Symbol", "miRNA ID", "row.names", "Ensembl Gene ID", "cell_barcode"):
        named = hr.open_counts(put(tmp_path / "t.tsv", f"{corner}\t101\t102\n{body}"), orientation="genes x samples")
        assert (named.obs.index.tolist(), named.var.index.tolist()) == (["101", "102"], ids)
        assert named.X.toarray().tolist() == expected
    with pytest.raises(InputError, match=r"may be a header or counts; say header=True or header=False"):
        hr.open_counts(put(tmp_path / "t.tsv", f"7158\t1\t2\n{body}"))


names = st.text(PLAIN | AWKWARD, min_size=1, max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_pandas_writes_comes_back(tmp_path: Path, data: st.DataObject) -> None:
    """Read back equal, or refused by an error of ours."""
    genes = data.draw(st.lists(names, min_size=3, max_size=6, unique=True))
    samples = data.draw(st.lists(names, min_size=2, max_size=3, unique=True))
    number = data.draw(st.sampled_from([st.integers(0, 2**24), st.integers(0, 2**20).map(lambda n: n / 8)]))
    row = st.lists(number, min_size=len(samples), max_size=len(samples))
    values = data.draw(st.lists(row, min_size=len(genes), max_size=len(genes)))
    frame = pd.DataFrame(values, genes, samples)
    text = data.draw(st.none() | st.lists(names, min_size=len(genes), max_size=len(genes)))
    header = data.draw(st.booleans())
    if text is not None and not header and all(is_number(one) or is_missing(one) for one in text):
        return  # a column of numbers without a name is counts
    path = tmp_path / data.draw(st.sampled_from(["t.csv", "t.tsv", "t.txt"]))
    try:
        (frame if text is None else frame.assign(gene_name=text)[["gene_name", *samples]]).to_csv(
            path,
            sep=data.draw(st.sampled_from([",", "\t", ";"])),
            decimal=data.draw(st.sampled_from([".", ","])),
            header=header,
            index_label=data.draw(st.sampled_from([None, "gene_id", False])),
            quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
            lineterminator=data.draw(st.sampled_from(["\n", "\r\n", "\r"])),
            encoding=data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])),
        )
    except UnicodeEncodeError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            source = hr.open_counts(path, orientation="genes x samples")
        except HeadraceError:
            return
    known = [name for name in genes if name in source.var.index]
    made = pd.DataFrame(source.X.toarray().T, source.var.index, source.obs.index)
    expected = frame if header else frame.set_axis(made.columns, axis=1)
    np.testing.assert_array_equal(made.loc[known, :].to_numpy(), expected.loc[known, made.columns].to_numpy())
    missing = set(genes) - set(known)
    # summary rows, blanks at the ends; and without a header, a first row that begins as headers do
    first = next((name for name in genes if not name.startswith("#")), "")
    corner = {first} if not header and is_corner(first) else set()
    known = [name.startswith(("__", "N_", "#")) or name != name.strip() or name in corner for name in missing]
    assert all(known), (missing, made.index)


def test_mutated_tables_are_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(15)
    seeds = [
        HTSEQ,
        STAR,
        TABLE,
        "gene;s1\ng1;1,5\ng2;2,5\n",
        "#1.2\n2\t1\nName\tDescription\ta\nE1\tX\t1\nE2\tY\t4\n",
        GCT,
        SALMON + "T1\t9\t8\t1\t6\nT2\t5\t3\t3\t9\n",
    ]
    packed = [seed.encode() for seed in seeds] + [
        gzip.compress(TABLE.encode()),
        zipped(a=TABLE),
        TABLE.encode("utf-16"),
    ]
    path = tmp_path / "f.tsv"
    for _ in range(1500):
        data = bytearray(rng.choice(packed))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            how = rng.randrange(4)
            if how == 0:
                data[at:at] = rng.choice(
                    [b"\t", b",", b";", b"\n", b"#", b'"', b"\0", b"-", b"\xff", b"1e999", b"NA", b"#1.3\n", b" "]
                )
            elif how == 1 and at < len(data):
                data[at] = rng.randrange(256)
            elif how == 2:
                del data[at : at + rng.randint(1, 20)]
            else:
                del data[at:]
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                hr.open_counts(path, strandedness="reverse")
            except HeadraceError:
                pass
            except Exception as error:
                raise AssertionError(f"{bytes(data)!r}: {error!r}") from error


def test_a_size_of_a_gct_table_that_is_text_of_many_bytes(tmp_path: Path) -> None:
    """It is cut for the message, and not within a letter."""
    path = tmp_path / "x.gct"
    path.write_text("#1.2\n" + "a" + "é" * 40 + "\t2\nName\tDescription\ts1\ng1\tx\t5\n", encoding="utf-8")
    with pytest.raises(hr.InputError, match=f"line 2: 'a{'é' * 39}' is no size of a GCT table"):
        hr.open_counts(path)
