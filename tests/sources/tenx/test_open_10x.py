"""Files of Cell Ranger, compared with what scanpy reads of them."""

from __future__ import annotations

import gzip
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
import scanpy
from scipy import io, sparse

import headrace as hr
from headrace.cli import main
from headrace.errors import HeadraceError, InputError, OutputError
from headrace.sources.tenx import mtx

X = sparse.csr_matrix(np.random.default_rng(0).poisson(0.3, (50, 30)).astype(np.int32))
TYPES = ["Gene Expression"] * 20 + ["Antibody Capture"] * 10


def h5(path: Path, version: int, genomes: tuple[str, ...] = ("GRCh38",)) -> Path:
    with h5py.File(path, "w") as file:
        for name in ("matrix",) if version == 3 else genomes:
            group = file.create_group(name)
            group["barcodes"] = np.array([f"B{i}-1".encode() for i in range(50)])
            for part in ("data", "indices", "indptr"):
                group.create_dataset(part, data=getattr(X, part), compression="gzip")
            group["shape"] = np.array([30, 50])
            ids, names = (np.array([f"{what}{i}".encode() for i in range(30)]) for what in ("ENSG", "n"))
            if version == 3:
                features = group.create_group("features")
                features["id"], features["name"] = ids, names
                features["feature_type"] = np.array([one.encode() for one in TYPES])
                features["genome"] = np.array([b"GRCh38"] * 30)
            else:
                group["genes"], group["gene_names"] = ids, names
    return path


def folder(path: Path, version: int, by_gene: bool = False, packed: bool = True) -> Path:
    path.mkdir()
    io.mmwrite(path / "matrix.mtx", (X.T.tocsr() if by_gene else X.T.tocsc()).tocoo())
    third = [f"\t{kind}" if version == 3 else "" for kind in TYPES]
    features = path / ("features.tsv" if version == 3 else "genes.tsv")
    features.write_text("".join(f"ENSG{i}\tn{i}{third[i]}\n" for i in range(30)))
    (path / "barcodes.tsv").write_text("".join(f"B{i}-1\n" for i in range(50)))
    for file in list(path.iterdir()) if packed else []:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    return path


def test_h5_of_both_versions(tmp_path: Path) -> None:
    three = hr.open_10x(h5(tmp_path / "3.h5", 3))
    expected = scanpy.read_10x_h5(tmp_path / "3.h5")
    made = hr.Plan(pickle.loads(pickle.dumps(three))).to_anndata()
    assert (made.X != expected.X).nnz == 0
    assert made.var_names.tolist() == expected.var["gene_ids"].tolist()
    assert made.var["feature_name"].tolist() == expected.var_names.tolist()
    assert made.obs_names.tolist() == expected.obs_names.tolist()
    assert three.left_out == {"Antibody Capture": 10}
    proteins = hr.open_10x(tmp_path / "3.h5", feature_type="Antibody Capture")
    assert (X[:, 20:] != hr.Plan(proteins).to_anndata().X).nnz == 0
    assert hr.open_10x(tmp_path / "3.h5", feature_type=None).spec.n_vars == 30
    with pytest.raises(InputError, match="did you mean 'Antibody Capture'"):
        hr.open_10x(tmp_path / "3.h5", feature_type="Antibody")
    two = hr.open_10x(h5(tmp_path / "2.h5", 2))
    assert (hr.Plan(two).to_anndata().X != scanpy.read_10x_h5(tmp_path / "2.h5").X).nnz == 0
    with pytest.raises(InputError, match="several genomes; say genome='GRCh38' or 'mm10'"):
        hr.open_10x(h5(tmp_path / "both.h5", 2, ("GRCh38", "mm10")))
    assert hr.open_10x(tmp_path / "both.h5", genome="mm10").var["genome"].unique().tolist() == ["mm10"]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("by_gene", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_folders(tmp_path: Path, version: int, by_gene: bool, packed: bool) -> None:
    path = folder(tmp_path / "f", version, by_gene, packed)
    source = hr.open_10x(path, feature_type=None)
    made = hr.Plan(source, [hr.NormalizeTotal(1e4)]).to_anndata()
    plain = hr.Plan(source).to_anndata()
    assert (plain.X != X).nnz == 0
    np.testing.assert_allclose(np.asarray(made.X.sum(axis=1)).ravel(), 1e4, rtol=1e-5)
    if packed == (version == 3):  # what scanpy can read
        assert (scanpy.read_10x_mtx(path, gex_only=False).X != plain.X).nnz == 0


def test_what_is_broken_is_said(tmp_path: Path) -> None:
    path = folder(tmp_path / "f", 3, packed=False)
    text = (path / "matrix.mtx").read_text()
    for changed, words in (
        (text[: len(text) // 2].rsplit("\n", 1)[0], "may be cut off"),
        (text.replace("\n1 ", "\n99 ", 1), "99 is not in 1 to 30"),
        (text.replace("coordinate", "array"), "no sparse Matrix Market"),
    ):
        (path / "matrix.mtx").write_text(changed)
        with pytest.raises(HeadraceError, match=words):
            hr.Plan(hr.open_10x(path)).to_anndata()
    (path / "barcodes.tsv").write_text("B\n")
    (path / "matrix.mtx").write_text(text)
    with pytest.raises(InputError, match="30 x 50, but there are 30 features and 1 barcodes"):
        hr.open_10x(path)
    with pytest.raises(InputError, match="no features.tsv or genes.tsv|no matrix.mtx"):
        hr.open_10x(tmp_path)
    anndata.AnnData(np.ones((2, 2), np.float32)).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(InputError, match="open_h5ad"):
        hr.open_10x(tmp_path / "x.h5ad")


def test_a_link_that_leads_nowhere_is_no_matrix(tmp_path: Path) -> None:
    """Found by mutation."""
    path = h5(tmp_path / "x.h5", 3)
    before = hr.open_10x(path).spec.n_obs
    with h5py.File(path, "r+") as file:
        file["nowhere"], file["elsewhere"] = h5py.SoftLink("/not/there"), h5py.ExternalLink("not.h5", "there")
    try:
        assert hr.open_10x(path).spec.n_obs == before
    except (InputError, hr.SourceError) as error:
        assert "nowhere" in str(error) or "elsewhere" in str(error)  # noqa: PT017 # both are right


def test_on_the_command_line(tmp_path: Path) -> None:
    h5(tmp_path / "3.h5", 3)
    out = ["--out", str(tmp_path / "o.h5ad")]
    assert main(["export", "--tenx", str(tmp_path / "3.h5"), *out, "--target-sum", "1e4"]) == 0
    assert anndata.read_h5ad(tmp_path / "o.h5ad").n_vars == 20
    assert main(["export", "--tenx", str(tmp_path / "3.h5"), "--raw", *out]) == 2
    before = (tmp_path / "3.h5").read_bytes()
    (tmp_path / "l.csv").symlink_to(tmp_path / "3.h5")
    with pytest.raises(OutputError, match="what this plan reads"):
        hr.Plan(hr.open_10x(tmp_path / "3.h5")).write(hr.Table(tmp_path / "l.csv", overwrite=True))
    assert (tmp_path / "3.h5").read_bytes() == before


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(18)
    path = folder(tmp_path / "f", 3, packed=False)
    whole = h5(tmp_path / "3.h5", 3).read_bytes()
    for number in range(150):
        name = rng.choice(["matrix.mtx", "features.tsv", "barcodes.tsv", "3.h5"])
        target = tmp_path / name if name == "3.h5" else path / name
        original = whole if name == "3.h5" else target.read_bytes()
        data = bytearray(original)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(len(data))
            if rng.random() < 0.3:
                del data[at : at + rng.randint(1, 30)]
            else:
                data[at] = rng.randrange(256)
        target.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", hr.TextEncodingWarning)
                hr.Plan(hr.open_10x(target if name == "3.h5" else path)).to_anndata()
        except HeadraceError:
            pass
        except Exception as error:
            raise AssertionError(f"{number} {name}: {error!r}") from error
        target.write_bytes(original)


@pytest.mark.parametrize("make", [h5, folder])
def test_features_by_their_symbols(make: Any, tmp_path: Path) -> None:
    path = make(tmp_path / "x", 3)
    if make is h5:
        with h5py.File(path, "r+") as file:
            file["matrix/features/name"][3:5] = b"n1"
    else:
        features = gzip.decompress((path / "features.tsv.gz").read_bytes()).replace(b"\tn3\t", b"\tn1\t")
        (path / "features.tsv.gz").write_bytes(gzip.compress(features.replace(b"\tn4\t", b"\tn1\t")))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variable names are not unique")
        expected = (scanpy.read_10x_h5 if make is h5 else scanpy.read_10x_mtx)(path)
    expected.var_names_make_unique()
    made = hr.Plan(hr.open_10x(path, var_names="feature_name")).to_anndata()
    assert made.var_names.tolist() == expected.var_names.tolist()
    assert made.var_names[3:5].tolist() == ["n1-1", "n1-2"]
    assert made.var["feature_id"].tolist() == expected.var["gene_ids"].tolist()
    assert (made.X != expected.X).nnz == 0
    with pytest.raises(InputError, match="feature_nam.*did you mean 'feature_name'"):
        hr.open_10x(path, var_names="feature_nam")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: text.replace(b"30 50 ", b"30 50 1"),
            r"says that it has [\d,]+ values, but has \d+; it may be cut off",
        ),
        (lambda text: text + b"1 1 1\n" * 1000, "values, but has more; it is broken"),
        (lambda text: text + b"1 1 " + b"0" * 600_000 + b"1\n", "line of more than 65,536 characters"),
        (lambda text: text + bytes(300_000), "line of more than 65,536 characters"),
        (lambda text: text + b"\n" * 300_000, None),
        (lambda text: text.replace(b"\n", b"\n%" + b"x" * 200_000 + b"\n", 1), None),
    ],
)
def test_sizes_and_lines_of_a_matrix_that_lie(change: Any, said: str | None, tmp_path: Path) -> None:
    path = folder(tmp_path / "x", 3, packed=False) / "matrix.mtx"
    path.write_bytes(change(path.read_bytes()))
    if said is None:
        assert (hr.Plan(hr.open_10x(path.parent, feature_type=None)).to_anndata().X != X).nnz == 0
    else:
        with pytest.raises(HeadraceError, match=said):
            hr.Plan(hr.open_10x(path.parent)).to_anndata()


@pytest.mark.parametrize("packed", [False, True])
def test_a_nul_among_values_is_refused(packed: bool, tmp_path: Path) -> None:
    """Read as text that ends there, 5\\03 would be 5."""
    (tmp_path / "barcodes.tsv").write_text("AAA\nCCC\n")
    (tmp_path / "genes.tsv").write_text("E1\tA\nE2\tB\n")
    text = b"%%MatrixMarket matrix coordinate integer general\n2 2 3\n1 1 5\x003\n1 2 1\n2 2 2\n"
    (tmp_path / f"matrix.mtx{'.gz' * packed}").write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(hr.SourceError, match="NUL byte among its values"):
        hr.Plan(hr.open_10x(tmp_path)).to_anndata()


@pytest.mark.parametrize("order", ["cells", "genes", "any"])
@pytest.mark.parametrize("block", [7, 64, 1 << 19])
def test_an_mtx_in_any_order_gives_each_cell_its_values(
    order: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is cut: a chunk need not begin where a block of the sorted file does."""
    monkeypatch.setattr(mtx, "BLOCK", block)
    rng = np.random.default_rng(4)
    X = rng.poisson(0.7, (40, 12))
    X[[0, 9, 39]] = 0
    cells, genes = np.nonzero(X)
    at = {"cells": np.arange(len(cells)), "genes": np.lexsort((cells, genes)), "any": rng.permutation(len(cells))}[
        order
    ]
    lines = [f"{genes[k] + 1} {cells[k] + 1} {X[cells[k], genes[k]]}" for k in at]
    head = f"%%MatrixMarket matrix coordinate integer general\n12 40 {len(lines)}"
    (tmp_path / "matrix.mtx").write_text("\n".join([head, *lines, ""]))
    (tmp_path / "barcodes.tsv").write_text("".join(f"c{i}\n" for i in range(40)))
    (tmp_path / "genes.tsv").write_text("".join(f"g{i}\tG{i}\n" for i in range(12)))
    for target in (1, 3, 10, 50, 1000):
        source = hr.open_10x(tmp_path)
        refs = source.refs(target)
        found = np.vstack([chunk.X.toarray() for chunk in source.read(refs)])
        assert found.tolist() == X.tolist()
        backwards = [chunk.X.toarray() for ref in reversed(refs) for chunk in source.read([ref])]
        assert np.vstack(backwards[::-1]).tolist() == X.tolist()
