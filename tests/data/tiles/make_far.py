"""Writes `far_2_31.zip`: rows across 2^31, columns across 2^24 (four bytes): `python make_far.py OUT_FOLDER`."""

import os
import shutil
import sys
import tempfile

import numpy as np
import tiledb
from make_versions import coordinates, value

FIRST_ROW, FIRST_COLUMN = 2**31 - 45, 2**24 - 150

if __name__ == "__main__":
    shuffle, zstd = tiledb.ByteShuffleFilter(), tiledb.ZstdFilter(9)

    def dim(name, *filters):
        return tiledb.Dim(name, domain=(0, 2**40), tile=32, dtype=np.int64, filters=tiledb.FilterList(filters))

    attribute = tiledb.Attr("soma_data", dtype=np.float32, filters=tiledb.FilterList([shuffle, zstd]))
    domain = tiledb.Domain(dim("soma_dim_0", shuffle, zstd), dim("soma_dim_1", shuffle, zstd))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "X")
        tiledb.SparseArray.create(
            path, tiledb.ArraySchema(domain, [attribute], sparse=True, allows_duplicates=True, capacity=256)
        )
        rows, columns = coordinates()
        with tiledb.open(path, "w") as array:
            array[rows + FIRST_ROW, columns + FIRST_COLUMN] = value(rows, columns)
            array.meta["soma_object_type"] = "SOMASparseNDArray"
            array.meta["soma_encoding_version"] = "1.1.0"
        shutil.make_archive(os.path.join(sys.argv[1], "far_2_31"), "zip", path)
