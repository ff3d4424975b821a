"""What somebody writes who knows numpy: one thread, 10,000 cells at a time, one to three passes, written with h5py.

Option: who reads (`readers.py`): h5py, or a program that reads fast and has no normalisation of its own.
"""

from typing import Any

import choose
import h5py
import numpy as np
import readers
from job import TARGET_SUM, Job

job = Job()

reader = job.options[0]
Array = np.ndarray[Any, Any]


class Sums:
    """Sum and sum of squares of every gene."""

    def __init__(self) -> None:
        self.sum, self.squares = np.zeros(n_genes), np.zeros(n_genes)

    def add(self, genes: Array, values: Array) -> None:
        """Add some cells."""
        self.sum += np.bincount(genes, values, n_genes)
        self.squares += np.bincount(genes, values.astype(np.float64) ** 2, n_genes)

    def moments(self) -> tuple[Array, Array]:
        """Return mean and variance."""
        mean = self.sum / n
        return mean, (self.squares / n - mean**2) * n / (n - 1)


file = h5py.File(job.input)
n, n_genes = map(int, file["X"].attrs["shape"])
chunks = readers.READERS[reader](job.input)
chosen = None
if job.flavor == "seurat_v3":
    counts, clipped = Sums(), Sums()
    for values, genes, _ in chunks():
        counts.add(genes, values)
    mean, var = counts.moments()
    std = choose.expected_std(mean, var)
    most = std * np.sqrt(n) + mean
    for values, genes, _ in chunks():
        clipped.add(genes, np.minimum(values, most[genes]))
    chosen = choose.seurat_v3(mean, std, clipped.sum, clipped.squares, n)
if job.writes:
    sums = Sums()
    with h5py.File(job.output, "w") as out:
        out.attrs.update(file.attrs)
        for name in file:
            if name != "X":
                file.copy(name, out)
        X = out.create_group("X")
        X.attrs.update(file["X"].attrs)
        file.copy("X/indptr", X)
        store = {"shape": file["X/data"].shape, "chunks": (1 << 17,), "compression": job.compression}
        data, indices = X.create_dataset("data", dtype="f4", **store), X.create_dataset("indices", dtype="i4", **store)
        end = 0
        for values, genes, starts in chunks():
            total = np.add.reduceat(values, starts[:-1], dtype=np.float64)
            values *= np.repeat((TARGET_SUM / total).astype(np.float32), np.diff(starts))
            if job.flavor == "seurat":
                sums.add(genes, values)
            place = slice(end, end := end + len(values))
            data[place], indices[place] = np.log1p(values), genes
        chosen = choose.seurat(*sums.moments()) if chosen is None else chosen
        out["var"].create_dataset("highly_variable", data=chosen)
job.done(file["var"][file["var"].attrs["_index"]].asstr()[:], chosen)
