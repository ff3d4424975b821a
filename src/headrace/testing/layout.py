"""The Census as it is on disk: names, types, tiles and filters.

Read in the builder of the CELLxGENE Census (schema 2.4.0, datasets of schema 7.0.0, release 2025-11-08).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

CENSUS_SCHEMA_VERSION = "2.4.0"
DATASET_SCHEMA_VERSION = "7.0.0"
TILE = 2048  # cells and genes of a tile of X

ORGANISMS = {
    "homo_sapiens": ("Homo sapiens", "NCBITaxon:9606"),
    "mus_musculus": ("Mus musculus", "NCBITaxon:10090"),
    "callithrix_jacchus": ("Callithrix jacchus", "NCBITaxon:9483"),
    "macaca_mulatta": ("Macaca mulatta", "NCBITaxon:9544"),
    "pan_troglodytes": ("Pan troglodytes", "NCBITaxon:9598"),
}
"""Label and taxon of each organism the Census has."""

FULL_GENE_ASSAYS = {
    "EFO:0003755": "FL-cDNA",
    "EFO:0008747": "FRISCR",
    "EFO:0008763": "Hi-SCL",
    "EFO:0008797": "MATQ-seq",
    "EFO:0008877": "Quartz-seq",
    "EFO:0008930": "Smart-seq",
    "EFO:0008931": "Smart-seq2",
    "EFO:0008956": "SUPeR-seq",
    "EFO:0009999": "G&T-Seq",
    "EFO:0010004": "SCRB-seq",
    "EFO:0010006": "scM&T-seq",
    "EFO:0010022": "Smart-3SEQ",
    "EFO:0010058": "Fluidigm C1-based library preparation",
    "EFO:0010184": "Smart-like",
    "EFO:0022396": "TruSeq",
    "EFO:0022488": "Smart-seq3",
    "EFO:0022839": "STORM-seq",
    "EFO:0030031": "SCOPE-chip",
    "EFO:0030060": "mCT-seq",
    "EFO:0030061": "mcSCRB-seq",
    "EFO:0700016": "Smart-seq v4",
}
"""Assays whose counts the Census divides by gene length in its layer ``normalized``."""

TAG_ASSAYS = {
    "EFO:0008722": "Drop-seq",
    "EFO:0008919": "Seq-Well",
    "EFO:0009899": "10x 3' v2",
    "EFO:0009900": "10x 5' v2",
    "EFO:0009919": "SPLiT-seq",
    "EFO:0009922": "10x 3' v3",
    "EFO:0010550": "sci-RNA-seq",
    "EFO:0011025": "10x 5' v1",
    "EFO:0022604": "10x 3' v4",
    "EFO:0022605": "10x 5' v3",
    "EFO:0030059": "10x multiome",
}
"""The commonest of the other assays."""

ASSAYS = FULL_GENE_ASSAYS | TAG_ASSAYS

# Column types: arrow's, and "term" for a dictionary of strings.
OBS_TERMS = (
    *("assay", "assay_ontology_term_id", "cell_type", "cell_type_ontology_term_id"),
    *("development_stage", "development_stage_ontology_term_id", "disease", "disease_ontology_term_id"),
    *("donor_id", "is_primary_data", "observation_joinid"),
    *("self_reported_ethnicity", "self_reported_ethnicity_ontology_term_id", "sex", "sex_ontology_term_id"),
    *("suspension_type", "tissue", "tissue_ontology_term_id", "tissue_type"),
    *("tissue_general", "tissue_general_ontology_term_id"),
)
"""What a dataset says of its cells."""

OBS_STATISTICS = {
    "raw_sum": "float64",
    "nnz": "int64",
    "raw_mean_nnz": "float64",
    "raw_variance_nnz": "float64",
    "n_measured_vars": "int64",
}
OBS = (
    {"soma_joinid": "int64", "dataset_id": "term"}
    | dict.fromkeys(OBS_TERMS, "term")
    | {"is_primary_data": "bool", "observation_joinid": "string"}
    | OBS_STATISTICS
)
VAR = {
    "soma_joinid": "int64",
    "feature_id": "string",
    "feature_name": "string",
    "feature_type": "string",
    "feature_length": "int64",
    "nnz": "int64",
    "n_measured_obs": "int64",
}
DATASETS = {
    "soma_joinid": "int64",
    "citation": "string",
    "collection_id": "string",
    "collection_name": "string",
    "collection_doi": "string",
    "collection_doi_label": "string",
    "dataset_id": "string",
    "dataset_version_id": "string",
    "dataset_title": "string",
    "dataset_h5ad_path": "string",
    "dataset_total_cell_count": "int64",
}
ORGANISM_TABLE = {
    "soma_joinid": "int64",
    "organism_ontology_term_id": "string",
    "organism_label": "string",
    "organism": "string",
}
SUMMARY = {"soma_joinid": "int64", "label": "string", "value": "string"}
SUMMARY_CELL_COUNTS = {
    "soma_joinid": "int64",
    "organism": "term",
    "category": "term",
    "label": "string",
    "ontology_term_id": "string",
    "total_cell_count": "int64",
    "unique_cell_count": "int64",
}


def arrow_table(frame: pd.DataFrame, columns: Mapping[str, str]) -> pa.Table:
    """Give `frame` the columns of a Census table; each dictionary holds the terms that occur, in order."""
    arrays = {}
    for name, kind in columns.items():
        if kind == "term":
            codes, terms = pd.factorize(frame[name], sort=True)
            width = pd.Categorical.from_codes(codes, terms).codes.dtype
            terms = pa.array(terms.astype(object), pa.large_string())
            arrays[name] = pa.DictionaryArray.from_arrays(pa.array(codes.astype(width)), terms)
        else:
            arrow_type = {"string": pa.large_string(), "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64()}
            arrays[name] = pa.array(frame[name].to_numpy(), arrow_type[kind])
    return pa.table(arrays)


def _zstd(level: int) -> dict[str, Any]:
    return {"_type": "ZstdFilter", "level": level}


def frame_config(columns: Mapping[str, str]) -> dict[str, Any]:
    """Name the TileDB options of an ``obs`` or ``var``."""
    filters = {
        "term": [_zstd(9)],
        "string": [_zstd(19)],
        "bool": [_zstd(19)],
        "int64": ["ByteShuffleFilter", _zstd(9)],
        "float64": ["ByteShuffleFilter", _zstd(9)],
    }
    attrs = {name: {"filters": filters[kind]} for name, kind in columns.items() if name != "soma_joinid"}
    create = {
        "capacity": 2**16,
        "dims": {"soma_joinid": {"filters": ["DoubleDeltaFilter", _zstd(19)]}},
        "attrs": attrs,
        "offsets_filters": ["DoubleDeltaFilter", _zstd(19)],
        "allows_duplicates": True,
    }
    return {"tiledb": {"create": create}}


def x_config(layer: str) -> dict[str, Any]:
    """Name the TileDB options of a layer of X."""
    create = {
        "capacity": 2**16,
        "dims": {
            "soma_dim_0": {"tile": TILE, "filters": [_zstd(9)]},
            "soma_dim_1": {"tile": TILE, "filters": ["ByteShuffleFilter", _zstd(9)]},
        },
        "attrs": {"soma_data": {"filters": [_zstd(13)] if layer == "normalized" else ["ByteShuffleFilter", _zstd(9)]}},
        "cell_order": "row-major",
        "tile_order": "row-major",
        "allows_duplicates": True,
    }
    return {"tiledb": {"create": create}}
