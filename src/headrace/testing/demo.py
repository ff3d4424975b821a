"""The Census that the demo, the notebooks and most tests run on."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from headrace.testing.build import build_census
from headrace.testing.simulate import SimulatedDataset

MOUSE_LIVER = SimulatedDataset(
    n_obs=700,
    assay="EFO:0008931",
    n_vars=2000,
    nnz_per_cell=700,
    dataset_id="4546e757-34d0-4d17-be06-538318925fcd",
    title="Liver - A single-cell transcriptomic atlas characterizes ageing tissues in the mouse - Smart-seq2",
    tissue="liver",
)
DEMO = {
    "homo_sapiens": [
        SimulatedDataset(900, n_vars=2700, nnz_per_cell=400, tissue="lung", disease="COVID-19"),
        SimulatedDataset(600, "EFO:0009899", n_vars=2400, nnz_per_cell=300, tissue="blood"),
        SimulatedDataset(400, "EFO:0008931", n_vars=2500, nnz_per_cell=700, tissue="liver"),
        SimulatedDataset(
            500, {"EFO:0009922": 0.8, "EFO:0008931": 0.2}, n_vars=2800, nnz_per_cell=400, tissue="bone marrow"
        ),
        SimulatedDataset(250, "EFO:0011025", n_vars=2000, nnz_per_cell=300, tissue="blood", is_primary_data=False),
    ],
    "mus_musculus": [
        MOUSE_LIVER,
        SimulatedDataset(500, n_vars=2200, nnz_per_cell=350, tissue="lung"),
    ],
}


def build_demo_census(path: str | PathLike[str]) -> Path:
    """Write the default small Census: 3,850 simulated cells in seven datasets, about 10 MB, in seconds.

    Human, 2,650 cells in five datasets: 10x 3' v3 (lung, COVID-19), 10x 3' v2 (blood), Smart-seq2 (liver), 10x 3' v3
    and Smart-seq2 in one (bone marrow), and 250 cells of 10x 5' v1 that are not primary data (blood). Mouse, 1,200
    cells in two datasets: 10x 3' v3 (lung), and a stand-in for the Smart-seq2 liver dataset of the Census's notebook on
    full-length data, under its id and title. No two datasets measure the same genes, 2,000 to 2,800 each. Every call
    draws the same numbers.

    Parameters
    ----------
    path
        The Census: a directory that does not exist yet.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    InputError
        `path` exists.

    Examples
    --------
    >>> build_demo_census("census")  # doctest: +SKIP
    PosixPath('census')
    """
    return build_census(path, DEMO)
