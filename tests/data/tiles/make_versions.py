"""Writes a small array of the Census's schema with the installed TileDB-Py: `python make_versions.py OUT_FOLDER`.

Each `format_NN_*.zip` beside this file was made with one release of TileDB-Py (its number is in the name). The values
follow from the coordinates (`value`), so that tests know them without TileDB.
"""

import os
import shutil
import sys
import tempfile

import numpy as np
import tiledb

N_OBS, N_VAR = 90, 300


def schema():
    def dim(name, *filters):
        return tiledb.Dim(name, domain=(0, 2**31 - 3000), tile=32, dtype=np.int64, filters=tiledb.FilterList(filters))

    shuffle, zstd = tiledb.ByteShuffleFilter(), tiledb.ZstdFilter(9)
    attribute = tiledb.Attr("soma_data", dtype=np.float32, filters=tiledb.FilterList([shuffle, zstd]))
    domain = tiledb.Domain(dim("soma_dim_0", zstd), dim("soma_dim_1", shuffle, zstd))
    return tiledb.ArraySchema(
        domain, [attribute], sparse=True, allows_duplicates=True, capacity=256, cell_order="row-major",
        tile_order="row-major",
    )  # fmt: skip


def coordinates():
    rows, columns = np.divmod(np.arange(N_OBS * N_VAR), N_VAR)
    keep = (rows * 7919 + columns * 104729) % 31 < 2
    return rows[keep], columns[keep]


def value(rows, columns):
    return ((rows * 31 + columns * 17) % 997 + 1).astype(np.float32)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "X")
        tiledb.SparseArray.create(path, schema())
        rows, columns = coordinates()
        with tiledb.open(path, "w") as array:
            array[rows, columns] = value(rows, columns)
        (fragment,) = os.listdir(os.path.join(path, "__fragments"))
        name = f"format_{fragment.rpartition('_')[2]}_tiledb_py_{tiledb.__version__}"
        shutil.make_archive(os.path.join(sys.argv[1], name), "zip", path)
        print(name)
