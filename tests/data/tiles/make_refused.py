"""Writes one small array of each kind that the tile reader must refuse: `python make_refused.py OUT_FOLDER`.

The zip files in `refused` were made with TileDB-Py 0.36.1. Each array can be opened by tiledbsoma, has the coordinates
and values of `make_versions.py` unless its kind says otherwise, and stands for one line of the gate; `plain` is of the
kind that is read, and `appended`, `consolidated` and `commits` are too, though they have more than one fragment, times
of writing, and a list of commits.
"""

import os
import shutil
import sys
import tempfile

import numpy as np
import tiledb
from make_versions import coordinates, value

BYTESHUFFLE, ZSTD = tiledb.ByteShuffleFilter(), tiledb.ZstdFilter(9)


def schema(
    dups=True, rows=(ZSTD,), columns=(BYTESHUFFLE, ZSTD), values=(BYTESHUFFLE, ZSTD), dtype=np.float32, first=0,
    tile=32, cell_order="row-major", tile_order="row-major", dim=np.int64, more=(), names=("soma_dim_0", "soma_dim_1"),
    **attribute,
):  # fmt: skip
    def dimension(name, filters):
        return tiledb.Dim(
            name, domain=(first, 2**31 - 3000), tile=tile, dtype=dim, filters=tiledb.FilterList(filters)
        )  # fmt: skip

    domain = tiledb.Domain(dimension(names[0], rows), dimension(names[1], columns))
    attributes = [tiledb.Attr("soma_data", dtype=dtype, filters=tiledb.FilterList(values), **attribute), *more]
    return tiledb.ArraySchema(
        domain, attributes, sparse=True, allows_duplicates=dups, capacity=256, cell_order=cell_order,
        tile_order=tile_order,
    )  # fmt: skip


def write(path, part=slice(None), ctx=None, **attributes):
    rows, columns = (one[part] for one in coordinates())
    with tiledb.open(path, "w", ctx=ctx) as array:
        values = value(rows, columns).astype(array.schema.attr(0).dtype)
        array[rows, columns] = {"soma_data": values, **{k: v(len(rows)) for k, v in attributes.items()}}


def new(path, ctx=None, parts=(slice(None),), attributes=None, **kind):
    tiledb.SparseArray.create(path, schema(**kind), ctx=ctx)
    for part in parts:
        write(path, part, ctx, **(attributes or {}))


def half(path, **kind):
    n = int(np.searchsorted(coordinates()[0], 50))
    new(path, parts=(slice(0, n), slice(n, None)), **kind)


def overlapping(path):
    new(path, parts=(slice(0, None, 2), slice(1, None, 2)))


def config(mode):
    return tiledb.Config({"sm.consolidation.mode": mode, "sm.vacuum.mode": mode})


def consolidated(path):
    overlapping(path)
    tiledb.consolidate(path)
    tiledb.vacuum(path)


def not_vacuumed(path):
    overlapping(path)
    tiledb.consolidate(path)


def commits(path):
    half(path)
    tiledb.consolidate(path, config=config("commits"))
    tiledb.vacuum(path, config=config("commits"))


def metadata(path):
    half(path)
    tiledb.consolidate(path, config=config("fragment_meta"))


def delete(path):
    with tiledb.open(path, "d") as array:
        array.query(cond="soma_data > 500").submit()


def deleted(path):
    new(path)
    delete(path)


def deleted_commits(path):
    deleted(path)
    tiledb.consolidate(path, config=config("commits"))
    tiledb.vacuum(path, config=config("commits"))


def deleted_consolidated(path):
    half(path)
    delete(path)
    tiledb.consolidate(path)
    tiledb.vacuum(path)


def consolidated_no_duplicates(path):
    n = len(coordinates()[0])
    new(path, dups=False, parts=(slice(0, n * 2 // 3), slice(n // 3, None)))
    tiledb.consolidate(path)
    tiledb.vacuum(path)


def evolved(path):
    new(path)
    change = tiledb.ArraySchemaEvolution(tiledb.default_ctx())
    change.add_attribute(tiledb.Attr("more", dtype=np.int32))
    change.array_evolve(path)


def enumeration(path):
    kinds = tiledb.Enumeration("kinds", False, dtype=np.int32, values=np.arange(1000, dtype=np.int32))
    domain = tiledb.Domain(*(schema(dtype=np.int32).domain.dim(i) for i in range(2)))
    attribute = tiledb.Attr("soma_data", dtype=np.int32, enum_label="kinds", filters=tiledb.FilterList([ZSTD]))
    made = tiledb.ArraySchema(
        domain, [attribute], sparse=True, allows_duplicates=True, capacity=256, enums=[kinds]
    )  # fmt: skip
    tiledb.SparseArray.create(path, made)
    rows, columns = coordinates()
    with tiledb.open(path, "w") as array:
        array[rows, columns] = (value(rows, columns) - 1).astype(np.int32)


def far_columns(path):
    """Columns beyond what int32 holds."""
    domain = tiledb.Domain(
        *(tiledb.Dim(f"soma_dim_{i}", domain=(0, 2**40), tile=32, dtype=np.int64, filters=tiledb.FilterList([ZSTD]))
          for i in range(2))
    )  # fmt: skip
    attribute = tiledb.Attr("soma_data", dtype=np.float32, filters=tiledb.FilterList([ZSTD]))
    tiledb.SparseArray.create(
        path, tiledb.ArraySchema(domain, [attribute], sparse=True, allows_duplicates=True, capacity=256)
    )
    with tiledb.open(path, "w") as array:
        array[np.array([1, 2, 3]), np.array([5, 2**31 + 1, 2**33])] = np.ones(3, np.float32)


KINDS = {
    "plain": new,
    "appended": half,
    "consolidated": consolidated,
    "commits": commits,
    "overlapping": overlapping,
    "not_vacuumed": not_vacuumed,
    "fragment_metadata": metadata,
    "deleted": deleted,
    "deleted_commits": deleted_commits,
    "deleted_consolidated": deleted_consolidated,
    "consolidated_no_duplicates": consolidated_no_duplicates,
    "evolved": evolved,
    "enumeration": enumeration,
    "far_columns": far_columns,
    "empty": lambda path: new(path, parts=()),
    "checksum": lambda path: new(path, values=(ZSTD, tiledb.ChecksumMD5Filter())),
    "gzip": lambda path: new(path, values=(tiledb.GzipFilter(9),)),
    "no_filter": lambda path: new(path, values=()),
    "double_delta": lambda path: new(path, rows=(tiledb.DoubleDeltaFilter(), ZSTD)),
    "bit_width": lambda path: new(path, columns=(tiledb.BitWidthReductionFilter(), ZSTD)),
    "bitshuffle": lambda path: new(path, columns=(tiledb.BitShuffleFilter(), ZSTD)),
    "float64": lambda path: new(path, dtype=np.float64),
    "int32": lambda path: new(path, dtype=np.int32),
    "nullable": lambda path: new(path, nullable=True),
    "two_attributes": lambda path: new(
        path, more=[tiledb.Attr("more", dtype=np.int32)], attributes={"more": lambda n: np.zeros(n, np.int32)}
    ),
    "column_major_cells": lambda path: new(path, cell_order="col-major"),
    "column_major_tiles": lambda path: new(path, tile_order="col-major"),
    "hilbert": lambda path: new(path, cell_order="hilbert"),
    "from_minus_one": lambda path: new(path, first=-1),
    "uint64": lambda path: new(path, dim=np.uint64),
    "other_names": lambda path: new(path, names=("rows", "columns")),
}


def finish(path, ctx=None):
    """Say that it is a SOMASparseNDArray."""
    with tiledb.open(path, "w", ctx=ctx) as array:
        array.meta["soma_object_type"] = "SOMASparseNDArray"
        array.meta["soma_encoding_version"] = "1.1.0"


def save(path, name):
    shutil.make_archive(os.path.join(sys.argv[1], name), "zip", path)
    print(name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, make in KINDS.items():
            path = os.path.join(folder, name)
            make(path)
            finish(path)
            save(path, name)
        path = os.path.join(folder, "encrypted")
        key = {"sm.encryption_type": "AES_256_GCM", "sm.encryption_key": "0123456789abcdef0123456789abcdef"}
        ctx = tiledb.Ctx(key)
        new(path, ctx)
        save(path, "encrypted")
        path = os.path.join(folder, "dense")
        tiledb.from_numpy(path, np.ones((40, 40), "f4"))
        save(path, "dense")
