"""Write a Census: the collections, tables and matrices of the real one, in the same places and formats."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import zip_longest
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from headrace.errors import InputError, nearest, without_docstrings
from headrace.testing import layout
from headrace.testing.assemble import Experiment, assemble, normalized, summary_cell_counts
from headrace.testing.datasets import Dataset, check_organism
from headrace.testing.datasets import genes as packaged_genes
from headrace.testing.simulate import SimulatedDataset

try:
    import tiledbsoma as soma
except AttributeError as error:
    raise without_docstrings(error) from error

LAYERS = ("raw", "normalized")
SORTED = soma.TileDBWriteOptions(sort_coords=False)


def build_census(
    path: str | PathLike[str],
    datasets: Mapping[str, Sequence[Dataset | SimulatedDataset]],
    *,
    release: str = "2025-11-08",
    seed: int = 0,
    layers: Sequence[str] = LAYERS,
    n_fragments: int = 1,
    genes: Mapping[str, pd.DataFrame] | None = None,
    shuffle_cells: bool = False,
) -> Path:
    """Write a Census to local disk, with the object tree, tables, tiles and filters of the real one.

    The cells of an organism come in the order of its datasets. Datasets are numbered over all organisms in turn: the
    first of each, the second of each, and so on, so a dataset's joinid is not its place within its organism. The genes
    of an organism are those that a dataset measures, in the order in which they come up. All is held in memory while
    it is written.

    Parameters
    ----------
    path
        The Census: a directory that does not exist yet.
    datasets
        By organism (``"homo_sapiens"``, ...): counts (`Dataset`) and recipes (`SimulatedDataset`), freely mixed.
    release
        The build date that the Census gives itself, ``"YYYY-MM-DD"``.
    seed
        Of what is drawn. The same arguments give the same values, though not the same file names.
    layers
        Layers of X: ``"raw"``, ``"normalized"`` or both.
    n_fragments
        Fragments of each layer. The real Census has one, in which cells come in global order. With more, row `i` goes
        to fragment ``i % n_fragments``, and rows come out of order.
    genes
        By organism, the genes that recipes draw from, as `headrace.testing.genes` (the default) returns them.
    shuffle_cells
        Mix the cells of an organism, so that a dataset is no longer one range of joinids, as in no released Census.

    Returns
    -------
    pathlib.Path
        `path`, to be opened by ``cellxgene_census.open_soma(uri=str(path))``.

    Raises
    ------
    InputError
        An argument cannot be used, or two datasets contradict each other; nothing is written then.

    Examples
    --------
    >>> import tempfile
    >>> recipe = SimulatedDataset(n_obs=5, n_vars=50)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = build_census(Path(folder, "census"), {"homo_sapiens": [recipe]})
    ...     with soma.open(str(root)) as census:
    ...         print(census["census_data"]["homo_sapiens"].ms["RNA"].X["raw"].shape)
    (5, 50)
    """
    root = Path(path).absolute()
    _check(root, datasets, release, layers, n_fragments)
    drawn = {
        organism: [
            given.draw(organism, _table(genes, organism), seed=seed, number=number)
            if isinstance(given, SimulatedDataset)
            else given
            for number, given in enumerate(recipes)
        ]
        for organism, recipes in datasets.items()
    }
    rounds = zip_longest(*([(organism, dataset) for dataset in given] for organism, given in drawn.items()))
    numbered = [pair for turn in rounds for pair in turn if pair is not None]
    ids = [dataset.dataset_id for _, dataset in numbered]
    if len(set(ids)) < len(ids):
        raise InputError(f"two datasets have the dataset_id {max(ids, key=ids.count)!r}; give each its own")

    shuffle = np.random.default_rng(seed) if shuffle_cells else None
    experiments = {
        organism: assemble(
            {joinid: dataset for joinid, (its, dataset) in enumerate(numbered) if its == organism}, len(ids), shuffle
        )
        for organism in datasets
    }
    census: soma.Collection[Any]
    try:
        with soma.Collection.create(str(root)) as census:
            census.metadata["created_on"] = f"{release}T00:00:00+00:00"
            census.metadata["git_commit_sha"] = "simulated by headrace.testing"
            _write_info(census.add_new_collection("census_info"), release, numbered, experiments)
            data = census.add_new_collection("census_data")
            for organism, experiment in experiments.items():
                _write_experiment(data.add_new_collection(organism, soma.Experiment), experiment, layers, n_fragments)
            census.add_new_collection("census_spatial_sequencing")
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)  # half a Census opens, and lacks data
        raise
    return root


def _check(
    root: Path,
    datasets: Mapping[str, Sequence[Dataset | SimulatedDataset]],
    release: str,
    layers: Sequence[str],
    n_fragments: int,
) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root} exists; name a directory that does not, or remove it first")
    if not datasets or not all(datasets.values()):
        raise InputError("a Census needs an organism, and each organism a dataset")
    for organism in datasets:
        check_organism(organism)
    try:
        date.fromisoformat(release)
    except ValueError:
        raise InputError(f"release must be a date such as '2025-11-08', not {release!r}") from None
    if isinstance(layers, str) or not layers or not set(layers) <= set(LAYERS):
        raise InputError(f"layers must be some of {LAYERS}, not {layers!r}")
    if n_fragments < 1:
        raise InputError(f"n_fragments must be at least 1, not {n_fragments}")


def _table(genes: Mapping[str, pd.DataFrame] | None, organism: str) -> pd.DataFrame:
    if genes is None:
        return packaged_genes(organism)
    if organism not in genes:
        raise InputError(f"genes has no table for {organism!r} ({nearest(organism, genes)})")
    return genes[organism]


def _write_info(
    info: soma.Collection[Any], release: str, numbered: list[tuple[str, Dataset]], experiments: dict[str, Experiment]
) -> None:
    cells = sum(len(experiment.obs) for experiment in experiments.values())
    unique = sum(int(experiment.obs["is_primary_data"].sum()) for experiment in experiments.values())
    summary = {
        "census_schema_version": layout.CENSUS_SCHEMA_VERSION,
        "census_build_date": release,
        "dataset_schema_version": layout.DATASET_SCHEMA_VERSION,
        "total_cell_count": str(cells),
        "unique_cell_count": str(unique),
    }
    _write_frame(info, "summary", pd.DataFrame(summary.items(), columns=["label", "value"]), layout.SUMMARY)
    table = [
        {
            "citation": f"Simulated Dataset Version: {dataset.dataset_id}.h5ad",
            "collection_id": str(uuid.uuid5(uuid.NAMESPACE_OID, organism)),
            "collection_name": f"Simulated datasets of {layout.ORGANISMS[organism][0]}",
            "collection_doi": "",
            "collection_doi_label": "",
            "dataset_id": dataset.dataset_id,
            "dataset_version_id": str(uuid.uuid5(uuid.NAMESPACE_OID, dataset.dataset_id)),
            "dataset_title": dataset.title or dataset.dataset_id,
            "dataset_h5ad_path": f"{dataset.dataset_id}.h5ad",
            "dataset_total_cell_count": dataset.n_obs,
        }
        for organism, dataset in numbered
    ]
    _write_frame(info, "datasets", pd.DataFrame(table), layout.DATASETS)
    organisms = [(organism, *layout.ORGANISMS[organism]) for organism in experiments]
    columns = ["organism", "organism_label", "organism_ontology_term_id"]
    _write_frame(info, "organisms", pd.DataFrame(organisms, columns=columns), layout.ORGANISM_TABLE)
    counts = pd.concat([summary_cell_counts(organism, e.obs) for organism, e in experiments.items()])
    _write_frame(info, "summary_cell_counts", counts, layout.SUMMARY_CELL_COUNTS)


def _write_experiment(target: soma.Experiment, experiment: Experiment, layers: Sequence[str], n_fragments: int) -> None:
    _write_frame(target, "obs", experiment.obs, layout.OBS, layout.frame_config(layout.OBS))
    rna = target.add_new_collection("ms").add_new_collection("RNA", soma.Measurement)
    _write_frame(rna, "var", experiment.var, layout.VAR, layout.frame_config(layout.VAR))
    X, matrices = experiment.X, rna.add_new_collection("X")
    rows, columns = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), X.indices
    tiles = rows // layout.TILE * (X.shape[1] // layout.TILE + 1) + columns // layout.TILE
    order = np.argsort(tiles, kind="stable")  # global order: tile by tile, within a tile row by row
    fragments = [order[rows[order] % n_fragments == part] for part in range(n_fragments)]
    for layer in layers:
        values = X.data if layer == "raw" else normalized(experiment)
        array = matrices.add_new_sparse_ndarray(
            layer, type=pa.float32(), shape=X.shape, platform_config=layout.x_config(layer)
        )
        for part in fragments:
            # Each write makes a fragment. What is sorted already is written three times as fast.
            array.write(_triples(rows[part], columns[part], values[part]), platform_config=SORTED)
    presence = experiment.presence
    array = rna.add_new_sparse_ndarray("feature_dataset_presence_matrix", type=pa.bool_(), shape=presence.shape)
    array.write(_triples(presence.row, presence.col, presence.data))


def _triples(rows: Any, columns: Any, values: Any) -> pa.Table:
    return pa.table({"soma_dim_0": rows.astype(np.int64), "soma_dim_1": columns.astype(np.int64), "soma_data": values})


def _write_frame(
    parent: soma.Collection[Any] | soma.Experiment | soma.Measurement,
    name: str,
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    platform_config: dict[str, Any] | None = None,
) -> None:
    """Write a table whose `soma_joinid` is the row number.

    It is created, closed, and opened again to be written: in tiledbsoma 2.3.0 what is written through the parent has a
    time before that of the new schema, and its dictionaries read back empty.
    """
    table = layout.arrow_table(frame.assign(soma_joinid=np.arange(len(frame))), columns)
    created = parent.add_new_dataframe(
        name,
        schema=table.schema,
        index_column_names=["soma_joinid"],
        domain=[(0, len(table) - 1)],
        platform_config=platform_config,
    )
    created.close()
    time.sleep(0.002)  # times are whole milliseconds
    with soma.DataFrame.open(created.uri, "w") as opened:
        opened.write(table)
