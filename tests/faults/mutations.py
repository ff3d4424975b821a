"""Damage the files that people read, in many ways, and read them: every error is ours, and nothing crashes.

    python tests/faults/mutations.py --rounds 2000 --seed 1 --keep found
    python tests/faults/mutations.py --every-byte --rounds 20000

Small .h5ad files of several ages, 10x files and folders and tables of text are changed: bytes anywhere, fields of
tables, members, types, shapes and links of HDF5. Each is opened and read whole. A file is counted as read; refused, by
an error of `headrace.errors`; escaped, by another error; leaked, if what was read is in another file; greedy, if it took
3 GB; crashed; or hung. With --every-byte, tiny files of HDF5 and parquet have one byte after the other set to five values.
"""

from __future__ import annotations

from jobs import FaultError, fork, show, wait, wait_patiently  # isort: skip # before numpy

import argparse
import gzip
import mmap
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

import headrace as hr

READ, REFUSED, ESCAPED, LEAKED, GREEDY, CRASHED, HUNG = range(1, 8)
WORDS = dict(enumerate(("read", "refused", "escaped", "leaked", "greedy", "crashed", "hung"), start=1))
PATIENCE, CPU = 600.0, 60.0
"""Seconds for one file, on the clock and of the processor: another process may stop this one for minutes."""

MOST_HELD = 3 << 30
"""Bytes that no file may take of memory."""

VALUES = (0, 1, 2, 127, 255)
"""Of a byte, with --every-byte."""

MEMORY = 12 << 30
"""Bytes of addresses that a child may take: more than any of these files needs."""

SECRET = 7654321.0
"""The number in the file that no file may lead to."""

TOKENS = (
    b"\t,; |\n\r\"'#:.-+_ \xff\x00",
    (b"NA", b"nan", b"inf", b"-1", b"1e309", b"1,5", b"1.000,5", b"\xef\xbb\xbf", b"\xff\xfe", b"99999999999999999999"),
)
ODD = (0, 1, -1, 2, 255, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40, (1 << 62), (1 << 63) - 1, -(1 << 63))


# ------------------------------------------------------------------------------------------------------ files to hurt
def seeds(folder: Path) -> dict[str, Path]:
    """Write small files of each kind; return them by name."""
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.7, (40, 25)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(rng.choice(["a", "b", None], 40)),
            "n": pd.array(rng.choice([1, 2, None], 40), dtype="Int64"),
            "ok": pd.array(rng.choice([True, None], 40), dtype="boolean"),
            "text": [f"cell {i}" for i in range(40)],
            "score": rng.normal(size=40),
        },
        index=[f"c{i}" for i in range(40)],
    )
    var = pd.DataFrame({"feature_name": [f"name {i}" for i in range(25)]}, index=[f"g{i}" for i in range(25)])
    out = {}
    for name, form in (("csr", sparse.csr_matrix), ("csc", sparse.csc_matrix), ("dense", np.asarray)):
        adata = anndata.AnnData(form(dense), obs, var)
        adata.obsm["X_pca"], adata.varm["PCs"] = rng.normal(size=(40, 3)), rng.normal(size=(25, 3))
        adata.obsm["frame"] = pd.DataFrame({"a": rng.normal(size=40)}, index=obs.index)
        adata.layers["counts"] = form(dense)
        adata.uns.update({"log1p": {"base": 2.0}, "kind_colors": np.array(["#000000", "#ffffff"]), "d": {"a": [1, 2]}})
        if name == "csr":
            adata.raw = adata
        out[f"{name}.h5ad"] = folder / f"{name}.h5ad"
        adata.write_h5ad(out[f"{name}.h5ad"], compression={"csc": "gzip", "csr": None, "dense": "lzf"}[name])
    out["own.h5ad"] = folder / "own.h5ad"
    hr.Plan(hr.open_h5ad(out["csr.h5ad"]), [hr.SaveLayer("counts"), hr.NormalizeTotal(10)]).write_h5ad(out["own.h5ad"])
    by_gene = sparse.csc_matrix(dense.T)
    for version in (2, 3):
        path = out[f"tenx{version}.h5"] = folder / f"tenx{version}.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("matrix" if version == 3 else "GRCh38")
            for name in ("data", "indices", "indptr"):
                group.create_dataset(name, data=getattr(by_gene, name).astype(np.int32), chunks=(16,), compression=4)
            group["shape"], group["barcodes"] = np.array(by_gene.shape), np.array(obs.index, "S8")
            if version == 2:
                group["genes"], group["gene_names"] = np.array(var.index, "S8"), np.array(var["feature_name"], "S8")
            else:
                inner = group.create_group("features")
                inner["id"], inner["name"] = np.array(var.index, "S8"), np.array(var["feature_name"], "S8")
                inner["feature_type"], inner["genome"] = np.full(25, b"Gene Expression"), np.full(25, b"GRCh38")
    mtx = folder / "mtx"
    mtx.mkdir()
    entries = "".join(f"{i + 1} {j + 1} {int(dense[j, i])}\n" for j, i in zip(*dense.nonzero(), strict=True))
    head = f"%%MatrixMarket matrix coordinate integer general\n%\n25 40 {np.count_nonzero(dense)}\n"
    (mtx / "matrix.mtx").write_text(head + entries)
    (mtx / "features.tsv").write_text("".join(f"g{i}\tname {i}\tGene Expression\n" for i in range(25)))
    (mtx / "barcodes.tsv").write_text("".join(f"c{i}\n" for i in range(40)))
    out |= {f"mtx/{name}": mtx / name for name in ("matrix.mtx", "features.tsv", "barcodes.tsv")}
    counts = pd.DataFrame(rng.poisson(9, (30, 4)), [f"ENSG{i:011d}" for i in range(30)], list("abcd"))
    counts.to_csv(folder / "plain.csv")
    counts.to_csv(folder / "tabs.tsv", sep="\t")
    (counts + 0.5).to_csv(folder / "commas.csv", sep=";", decimal=",")
    counts.to_csv(folder / "packed.csv.gz", compression={"method": "gzip", "mtime": 0})
    counts.rename(columns=str).to_parquet(folder / "counts.parquet")
    counts["a"].to_csv(folder / "htseq.txt", sep="\t", header=False)
    with (folder / "htseq.txt").open("a") as file:
        file.write("__no_feature\t900\n__ambiguous\t3\n")
    with (folder / "sReadsPerGene.out.tab").open("w") as file:
        file.write("N_unmapped\t9\t9\t9\nN_multimapping\t1\t1\t1\nN_noFeature\t5\t6\t7\nN_ambiguous\t0\t1\t2\n")
        file.writelines(
            f"{name}\t{row[0]}\t{row[1]}\t{row[2]}\n" for name, row in zip(counts.index, counts.to_numpy(), strict=True)
        )
    lines = "".join(f"ENST{i:011d}\t{900 + i}\t{700.5 + i}\t{i * 1.5}\t{i * 3.25}\n" for i in range(30))
    (folder / "quant.sf").write_text("Name\tLength\tEffectiveLength\tTPM\tNumReads\n" + lines)
    lines = "".join(f"g{i}\tt{i},u{i}\t{900 + i}\t{700.5 + i}\t{i * 3.25}\t{i}\t{i}\n" for i in range(30))
    head = "gene_id\ttranscript_id(s)\tlength\teffective_length\texpected_count\tTPM\tFPKM\n"
    (folder / "s.genes.results").write_text(head + lines)
    rows = "".join(f"{n}\tname\t{r[0]}\t{r[1]}\n" for n, r in zip(counts.index, counts.to_numpy(), strict=True))
    (folder / "small.gct").write_text(f"#1.2\n30\t2\nName\tDescription\ta\tb\n{rows}")
    rows = "".join(
        f"{n}\t1;1\t5;9\t7;11\t+;+\t900\t{r[0]}\n" for n, r in zip(counts.index, counts.to_numpy(), strict=True)
    )
    (folder / "features.txt").write_text(
        f"# Program:featureCounts\nGeneid\tChr\tStart\tEnd\tStrand\tLength\ta.bam\n{rows}"
    )
    tables = ("plain.csv", "tabs.tsv", "commas.csv", "packed.csv.gz", "counts.parquet", "htseq.txt", "quant.sf")
    tables += ("sReadsPerGene.out.tab", "s.genes.results", "small.gct", "features.txt")
    return out | {name: folder / name for name in tables}


def tiny_seeds(folder: Path) -> dict[str, Path]:
    """Write files that have as little as one can have of each kind, in several versions of HDF5; return them by name."""
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(["a", "b", None]),
            "n": pd.array([1, None, 3], dtype="Int64"),
            "text": ["one", "two", "three"],
            "score": [0.5, 1.5, 2.5],
        },
        index=["c0", "c1", "c2"],
    )
    counts = np.array([[1, 0], [0, 2], [3, 4]], np.float32)
    var = pd.DataFrame(index=["g0", "g1"])
    whole = anndata.AnnData(sparse.csr_matrix(counts), obs, var, uns={"d": {"a": 1}}, obsm={"X_pca": np.ones((3, 2))})
    out = {}
    for name, libver, how in (
        ("tiny", "earliest", {}),
        ("packed", "earliest", {"compression": "gzip", "shuffle": True, "fletcher32": True}),
        ("v110", "v110", {"compression": "lzf"}),
        ("latest", "latest", {"chunks": (1,)}),
    ):
        path = out[f"{name}.h5ad"] = folder / f"{name}.h5ad"
        with h5py.File(path, "w", libver=libver) as file:
            anndata.io.write_elem(file, "/", whole)
            for part, values in (("X/data", counts[counts > 0]), ("obs/score", np.array([0.5, 1.5, 2.5]))):
                if how:
                    attributes = dict(file[part].attrs)
                    del file[part]
                    file.create_dataset(part, data=values, **{"chunks": (2,), **how}).attrs.update(attributes)
    out["tiny-own.h5ad"] = folder / "tiny-own.h5ad"
    hr.Plan(hr.open_h5ad(out["tiny.h5ad"]), [hr.SaveLayer("counts")]).write_h5ad(out["tiny-own.h5ad"])
    out["tiny.h5"] = folder / "tiny.h5"
    with h5py.File(out["tiny.h5"], "w") as file:
        group, by_gene = file.create_group("matrix"), sparse.csc_matrix(counts.T)
        for name in ("data", "indices", "indptr"):
            group.create_dataset(name, data=getattr(by_gene, name).astype(np.int32), chunks=(2,), compression=4)
        group["shape"], group["barcodes"] = np.array(by_gene.shape), np.array(obs.index, "S2")
        for name, value in (("id", b"g0"), ("name", b"n0"), ("feature_type", b"Gene Expression"), ("genome", b"G")):
            group[f"features/{name}"] = np.array([value, value[:1] + b"1" if len(value) == 2 else value])
    out["tiny.parquet"] = folder / "tiny.parquet"
    pd.DataFrame({"a": [1, 2], "b": [3, 4]}, index=["g0", "g1"]).to_parquet(out["tiny.parquet"])
    return out


def places(data: bytes) -> list[int]:
    """Return the places of a file's bytes, without those in the midst of many zeros, which nobody reads."""
    return [k for k in range(len(data)) if any(data[max(0, k - 8) : k + 9])]


# ---------------------------------------------------------------------------------------------------------- mutations
def bytes_changed(data: bytes, rng: random.Random, text: bool) -> bytes:
    """Change some bytes: flipped, written over, put in, left out, moved, cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at, n = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        what = rng.randrange(8)
        if what == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            out[at : at + n] = rng.randbytes(n)
        elif what == 2:
            out[at:at] = rng.randbytes(n)
        elif what == 3:
            del out[at : at + n]
        elif what == 4:
            start = rng.randrange(len(out) + 1)
            out[at:at] = out[start : start + n * 4]
        elif what == 5 and not rng.randrange(4):
            del out[at:]
        elif what == 6:
            value = rng.choice(ODD) & ((1 << 64) - 1)
            width = rng.choice((1, 2, 4, 8))
            out[at : at + width] = value.to_bytes(8, "little")[:width]
        elif text:
            mark = rng.choice(TOKENS[1]) if rng.randrange(2) else bytes([rng.choice(TOKENS[0])])
            out[at : at + rng.choice((0, 0, 1, n))] = mark
    return bytes(out)


def fields_changed(data: bytes, rng: random.Random) -> bytes:
    """Change lines and fields of a table: swapped, doubled, left out, replaced."""
    mark = max(b"\t,; ", key=data.count)
    lines = [line.split(bytes([mark])) for line in data.split(b"\n")]
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        column = rng.randrange(len(lines[at]) or 1)
        what = rng.randrange(7)
        if what == 0:
            lines[at], lines[other] = lines[other], lines[at]
        elif what == 1:
            lines.insert(at, list(lines[other]))
        elif what == 2 and len(lines) > 2:
            del lines[at]
        elif what == 3:
            lines[at].insert(column, rng.choice(TOKENS[1]))
        elif what == 4 and lines[at]:
            del lines[at][column]
        elif what == 5 and lines[at]:
            lines[at][column] = rng.choice((*TOKENS[1], b"", b'"', b"x" * 5000, b"a\0b"))
        else:
            width = min(map(len, lines[:-1] or lines))
            here = rng.randrange(width or 1)
            lines = [line[:here] + line[here : here + 1] * 2 + line[here + 1 :] for line in lines]
    return b"\n".join(bytes([mark]).join(line) for line in lines)


def members_changed(path: Path, rng: random.Random, secret: Path) -> None:
    """Change what an HDF5 file consists of: members, types, shapes, attributes, links."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            name = rng.choice(names)
            if name not in file:
                continue
            element = file[name]
            what = rng.randrange(10)
            if what == 0:
                del file[name]
            elif what == 1:
                _replace(file, name, _any_value(rng, element))
            elif what == 2:
                attribute = rng.choice([*element.attrs, "encoding-type", "shape", "categories", "ordered", "_index"])
                element.attrs[attribute] = _any_attribute(rng)
            elif what == 3 and len(element.attrs):
                del element.attrs[rng.choice(list(element.attrs))]
            elif what == 4:
                _replace(file, name, h5py.ExternalLink(str(secret), rng.choice(("X", "obs", "obs/n", "/", name))))
            elif what == 5:
                _replace(
                    file, name, h5py.SoftLink(rng.choice((f"/{name}", "/", "/X", "/nowhere", f"/{rng.choice(names)}")))
                )
            elif what == 6 and isinstance(element, h5py.Dataset) and element.size:
                _write_odd(element, rng)
            elif what == 7 and isinstance(element, h5py.Dataset) and element.ndim:
                _elsewhere(file, name, element, rng, secret)
            elif what == 8 and isinstance(element, h5py.Dataset) and element.chunks:
                element.resize(max(0, element.shape[0] + rng.choice((-1, 1, -3, 1000))), axis=0)
            else:
                other = rng.choice(names)
                if other in file and not other.startswith(name) and not name.startswith(other):
                    parent = name.rpartition("/")[0]
                    key = f"{parent}/{other.rpartition('/')[2]}x".strip("/")
                    if key not in file:
                        file.copy(other, key)


def _replace(file: h5py.File, name: str, value: Any) -> None:
    if name in file:
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = value
        if isinstance(value, np.ndarray):
            file[name].attrs.update(attributes)


def _any_value(rng: random.Random, element: Any) -> np.ndarray:
    n = element.shape[0] if isinstance(element, h5py.Dataset) and element.ndim else rng.choice((0, 1, 25, 40))
    n += rng.choice((0, 0, 0, 1, -1)) if n else 0
    kind = rng.choice(("f2", "f4", "f8", "i1", "i8", "u8", ">f4", ">i2", "?", "S3", "c8", "O", "f4 2", "V3", "f16"))
    if kind == "O":
        return np.array([rng.choice(("a", "b", "", "é")) for _ in range(n)], dtype=h5py.string_dtype())
    if kind == "f4 2":
        return np.zeros((n, 2), "f4")
    if kind == "V3":
        return np.zeros(n, [("a", "f4"), ("b", "i4")])
    if kind == "f16":
        return np.zeros(n, np.longdouble)
    values = np.array([rng.choice((0, 1, 2, 3, 100)) for _ in range(n)])
    if "f" in kind and n:
        values = values.astype(float)
        values[rng.randrange(n)] = rng.choice((np.nan, np.inf, -1.0, 1e300, 0.5))
    with np.errstate(over="ignore"):
        return values.astype(kind)


def _any_attribute(rng: random.Random) -> Any:
    return rng.choice(
        (
            *(
                "csr_matrix",
                "csc_matrix",
                "categorical",
                "dataframe",
                "nullable-integer",
                "string-array",
                "array",
                "nul",
            ),
            *(b"csr_matrix", 3, -1, True, 2.5, np.array([3, 4]), np.array([40, 25]), np.array([1 << 40, 25])),
            *(np.array([-1, 25]), np.array(["a", "b"], "S1"), np.array([], int), np.zeros((2, 2)), h5py.Empty("f4")),
        )
    )


def _write_odd(dataset: h5py.Dataset, rng: random.Random) -> None:
    at = tuple(rng.randrange(n) for n in dataset.shape)
    kind = dataset.dtype.kind
    if kind in "iu":
        limits = np.iinfo(dataset.dtype)
        dataset[at] = min(max(rng.choice(ODD), limits.min), limits.max)
    elif kind == "f":
        dataset[at] = rng.choice((np.nan, np.inf, -np.inf, -1.0, 0.5, 3e38))
    elif kind == "O":
        dataset[at] = rng.choice(
            ("", "c0", "c1", "g1", "é", "\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe", "a" * 9999)
        )


def _elsewhere(file: h5py.File, name: str, element: h5py.Dataset, rng: random.Random, secret: Path) -> None:
    """Put the numbers of a dataset into another file."""
    shape, kind = element.shape, element.dtype if element.dtype.kind in "iuf" else np.dtype("f4")
    attributes = dict(element.attrs)
    del file[name]
    if rng.randrange(2):
        parts = [(str(secret.with_suffix(".raw")), 0, h5py.h5f.UNLIMITED)]
        made = file.create_dataset(name, shape, kind, external=parts)
    else:
        layout = h5py.VirtualLayout(shape, kind)
        source = h5py.VirtualSource(str(secret), "flat", shape=(10_000,))
        n = int(np.prod(shape[:1]))
        if len(shape) == 1:
            layout[:] = source[:n]
        else:
            layout[:, 0] = source[:n]
        made = file.create_virtual_dataset(name, layout)
    made.attrs.update(attributes)


def make_secret(folder: Path) -> Path:
    """Write what no file may lead to, as an .h5ad file and as bytes."""
    path = folder / "secret.h5ad"
    obs = pd.DataFrame({"n": np.full(40, SECRET)}, index=[f"c{i}" for i in range(40)])
    anndata.AnnData(np.full((40, 25), SECRET, "f4"), obs, pd.DataFrame(index=[f"g{i}" for i in range(25)])).write_h5ad(
        path
    )
    with h5py.File(path, "a") as file:
        file["flat"] = np.full(10_000, SECRET, "f4")
    path.with_suffix(".raw").write_bytes(np.full(10_000, SECRET, "f4").tobytes())
    return path


def mutated(name: str, original: Path, folder: Path, rng: random.Random, secret: Path) -> Path:
    """Write a changed copy of a file (of a folder, if it is of one) where nothing else is; return its path."""
    shutil.rmtree(folder, ignore_errors=True)
    if name.startswith("mtx/"):
        shutil.copytree(original.parent, folder)
    else:
        folder.mkdir(parents=True)
    path = folder / original.name
    data = original.read_bytes()
    hdf5 = original.suffix in (".h5ad", ".h5")
    if hdf5 and rng.randrange(3):
        path.write_bytes(data)
        for _ in range(5):
            try:
                members_changed(path, rng, secret)
                break
            except (OSError, ValueError, TypeError, RuntimeError, KeyError, OverflowError):
                path.write_bytes(data)  # h5py has no such change
        return path
    packed = original.suffix == ".gz" and rng.randrange(2)
    if packed:
        data = gzip.decompress(data)
    text = not hdf5 and original.suffix not in (".parquet",) and (original.suffix != ".gz" or packed)
    data = fields_changed(data, rng) if text and rng.randrange(2) else bytes_changed(data, rng, bool(text))
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return path


# ------------------------------------------------------------------------------------------------------------ reading
def opened(path: Path, rng: random.Random) -> Any:
    """Open a file as one of its kind is opened, with some of what may be asked."""
    if path.suffix == ".h5ad":
        if not rng.randrange(5):
            return hr.open_counts(path, holds=rng.choice((None, "counts")))
        layer = rng.choice((None, None, "counts"))
        return hr.open_h5ad(
            path,
            layer=layer,
            raw=layer is None and not rng.randrange(5),
            holds=rng.choice((None, "counts", "normalized", "logged")),
            uns=rng.choice((None, "keep")),
            var_names=rng.choice((None, None, "feature_name")),
        )
    if path.suffix == ".h5":
        return hr.open_10x(path, feature_type=rng.choice(("Gene Expression", None)))
    if (path.parent / "matrix.mtx").exists():
        return hr.open_10x(path.parent)
    said: dict[str, Any] = {}
    if path.suffix == ".tab" or not rng.randrange(9):
        said["strandedness"] = rng.choice((None, "unstranded", "reverse"))
    if not rng.randrange(3):
        said["orientation"] = rng.choice(("genes x samples", "samples x genes"))
    return hr.open_counts(path, **said)


def opened_plainly(path: Path) -> Any:
    """Open a file with as little asked as one can."""
    if path.suffix == ".h5ad":
        return hr.open_h5ad(path, holds="counts", uns="keep")
    return hr.open_10x(path) if path.suffix == ".h5" else hr.open_counts(path)


def read(path: Path, rng: random.Random | None) -> int:
    """Open a file, by chance with this or that asked, and read it; say how it went."""
    try:
        source = opened_plainly(path) if rng is None else opened(path, rng)
        spec = source.spec
        str(spec.uns), source.identity(), source.provenance(), source.cost(), source.value_counts("kind")
        leaked = False
        for chunk in source.read(source.refs(300)):
            X = chunk.X if isinstance(chunk.X, np.ndarray) else chunk.X.data
            numbers = [X, *(chunk.obs[name].to_numpy() for name in chunk.obs if chunk.obs[name].dtype == float)]
            leaked |= any(bool((np.asarray(each, float) == SECRET).any()) for each in numbers)
            leaked |= str(int(SECRET)) in str(chunk.obs.to_dict())
    except hr.HeadraceError:
        return REFUSED
    except Exception:
        traceback.print_exc()
        return ESCAPED
    if leaked or str(int(SECRET)) in str(spec.uns):
        print(f"what was read is of {SECRET}", file=sys.stderr)
        return LEAKED
    return READ


def byte_set(
    number: int, tries: Sequence[tuple[str, int, int]], files: dict[str, Path], folder: Path
) -> tuple[str, Callable[[], int]]:
    """Make the file of a number, with one byte set; return what it was, and how to read it."""
    name, at, value = tries[number]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = bytearray(files[name].read_bytes())
    data[at] = value
    (folder / name).write_bytes(data)
    return f"{name} {at} = {value}", lambda: read(folder / name, None)


def one(number: int, seed: int, files: dict[str, Path], folder: Path, secret: Path) -> tuple[str, Callable[[], int]]:
    """Make the changed file of a number; return what it was, and how to read it."""
    rng = random.Random(f"{seed} {number}")
    name = rng.choice(sorted(files))
    path = mutated(name, files[name], folder, rng, secret)
    return name, lambda: read(path, rng)


Make = Callable[[int, Path], tuple[str, Callable[[], int]]]
"""Makes the file of a number in a folder; returns what it was, and what reads it."""


def _go(start: int, make: Make, folder: Path, results: mmap.mmap) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    for number in range(start, len(results)):
        name, run = make(number, folder)
        print(f"\n--- {number}: {name}", file=sys.stderr, flush=True)
        signal.setitimer(signal.ITIMER_PROF, CPU)  # whose signal ends this process
        result = run()
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MOST_HELD:
            results[number] = GREEDY
            os._exit(0)  # what the next one takes is its own
        results[number] = result


def main() -> int:
    """Mutate and read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="files to make and read")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-byte", action="store_true", help="set bytes, in an order that the seed decides")
    parser.add_argument("--only", type=int, help="the file of this number, read in this process")
    parser.add_argument("--keep", type=Path, help="folder for the files that were not read or refused as they should")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-mutations-") as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        write = tiny_seeds if given.every_byte else seeds
        if wait(fork(lambda: 0 if write(folder / "seeds") and make_secret(folder) else 1, folder / "log")):
            raise FaultError((folder / "log").read_text())
        files = {str(p.relative_to(folder / "seeds")): p for p in sorted((folder / "seeds").rglob("*")) if p.is_file()}
        secret = folder / "secret.h5ad"
        where = folder / "file"
        tries: list[tuple[str, int, int]] = []
        for name, path in files.items() if given.every_byte else ():
            data = path.read_bytes()
            tries += [(name, at, value) for at in places(data) for value in VALUES if data[at] != value]
        random.Random(given.seed).shuffle(tries)
        tries = tries[: given.rounds]

        def make(number: int, folder: Path) -> tuple[str, Callable[[], int]]:
            if given.every_byte:
                return byte_set(number, tries, files, folder)
            return one(number, given.seed, files, folder, secret)

        if given.only is not None:
            what, run = make(given.only, where)
            if given.keep:
                shutil.copytree(where, given.keep, dirs_exist_ok=True)
            print(what, WORDS[run()])
            return 0
        results = mmap.mmap(-1, len(tries) if given.every_byte else given.rounds)
        done = bad = 0
        said: dict[int, str] = {}
        kinds: dict[str, Counter[str]] = {}
        while done < len(results):  # a child goes on until a file makes it crash
            child = fork(lambda: _go(done, make, where, results), folder / "log")  # noqa: B023 # waited for
            code = wait_patiently(child, results, PATIENCE)
            for part in (folder / "log").read_text(errors="replace").split("\n--- ")[1:]:
                said[int(part.split(":", 1)[0])] = part
            done = next((k for k in range(done, len(results)) if results[k] == 0), len(results))
            if done < len(results) and code != 0:
                results[done] = HUNG if code in (None, -signal.SIGPROF) else CRASHED
                done += 1
        for number, result in enumerate(results[:]):
            part = said.get(number, f"{number}: ?\n")
            kind = part.split(": ", 1)[1].split("\n")[0].split(" ")[0]
            kinds.setdefault(kind, Counter())[WORDS[result]] += 1
            if result not in (READ, REFUSED):
                bad += 1
                print(f"{WORDS[result]}: number {number} of seed {given.seed}: {part[-3000:]}", flush=True)
                if given.keep:
                    make(number, given.keep / f"{given.seed}-{number}")
    show({"seed": given.seed, "failures": bad, "files": {kind: dict(seen) for kind, seen in sorted(kinds.items())}})
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
