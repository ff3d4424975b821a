"""Counts that look like those of a real study, drawn from a model small enough to read.

A cell has a type, a donor and a library size. The expression of its genes is what its type makes of the organism's
genes, shifted a little by dataset and donor; its counts are negative binomial. A full-length assay amplifies the
molecules into reads, in proportion to the length of the gene. Plain numpy: compiling would take longer than drawing.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from headrace.errors import InputError, nearest
from headrace.testing.biology import BETWEEN_TERMS, CELL_TYPES, DISEASES, RESIDENTS, TISSUES
from headrace.testing.datasets import Dataset, check_genes, check_organism
from headrace.testing.layout import ASSAYS, FULL_GENE_ASSAYS, ORGANISMS

Floats = npt.NDArray[np.float64]

LIBRARY_SPREAD = 0.4  # standard deviations of the natural logarithm
DATASET_SHIFT = 0.25
DONOR_SHIFT = 0.15
STRESS_SPREAD = 0.5  # of the mitochondrial fraction, from cell to cell
AMPLIFICATION_SPREAD = 0.7  # of the reads that a molecule becomes
MEDIAN_READS = 3e5
LEAST_READS, MOST_READS = 1e5, 1e6
CELLS_AT_ONCE = 512


@dataclass(frozen=True)
class SimulatedDataset:
    """A dataset to be drawn: how large, by which assay, of what.

    Parameters
    ----------
    n_obs
        Number of cells.
    assay
        EFO id, or the fraction of cells by EFO id, e.g. ``{"EFO:0009922": 0.8, "EFO:0008931": 0.2}``. Assays that
        the Census normalises by length give reads, 100,000 to a million per cell; the others molecules.
    n_vars
        How many genes were measured, drawn with a preference for expressed ones; default: all of the table.
    feature_ids
        Which genes were measured, instead of `n_vars`.
    nnz_per_cell
        Mean number of genes found in a cell; default: a fifth of the measured ones.
    dataset_id, title
        As the Census has them; default: an id that depends on the organism and the position in the list, and a title
        that says what it is.
    tissue
        ``"blood"``, ``"bone marrow"``, ``"heart left ventricle"``, ``"liver"`` or ``"lung"``; it decides the types of
        cells.
    is_primary_data
        False for a copy of cells that another dataset has too.
    n_donors
        Number of donors.
    disease
        ``"normal"``, ``"COVID-19"``, ``"lung adenocarcinoma"``, ``"type 2 diabetes mellitus"``, or several of them
        joined by ``" || "``.

    Raises
    ------
    InputError
        A number is out of range or a name is not known.

    Examples
    --------
    >>> from headrace.testing import genes
    >>> recipe = SimulatedDataset(n_obs=20, assay="EFO:0008931", n_vars=500, tissue="liver")
    >>> dataset = recipe.draw("mus_musculus", genes("mus_musculus"))
    >>> dataset.X.shape
    (20, 500)
    """

    n_obs: int
    assay: str | Mapping[str, float] = "EFO:0009922"
    n_vars: int | None = None
    feature_ids: Sequence[str] | None = None
    nnz_per_cell: float | None = None
    dataset_id: str = ""
    title: str = ""
    tissue: str = "blood"
    is_primary_data: bool = True
    n_donors: int = 4
    disease: str = "normal"

    def __post_init__(self) -> None:
        for name in ("n_obs", "n_vars", "n_donors", "nnz_per_cell"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if self.n_vars is not None and self.feature_ids is not None:
            raise InputError("give n_vars or feature_ids, not both: the ids say how many genes there are")
        if abs(sum(self.fractions.values()) - 1) > 1e-6 or min(self.fractions.values(), default=0) < 0:
            raise InputError(f"the fractions of assay must be at least 0 and sum to 1, not {dict(self.fractions)}")
        for kind, names, known in (
            ("assay", self.fractions, ASSAYS),
            ("tissue", [self.tissue], TISSUES),
            ("disease", self.disease.split(BETWEEN_TERMS), DISEASES),
        ):
            for name in names:
                if name not in known:
                    raise InputError(f"{kind} {name!r} cannot be simulated ({nearest(name, known)})")

    @property
    def fractions(self) -> Mapping[str, float]:
        """Fraction of the cells by assay."""
        return {self.assay: 1.0} if isinstance(self.assay, str) else self.assay

    def draw(self, organism: str, genes: pd.DataFrame, *, seed: int = 0, number: int = 0) -> Dataset:
        """Draw the counts and describe the cells.

        Parameters
        ----------
        organism
            As the Census spells it, e.g. ``"mus_musculus"``.
        genes
            The genes there are, as `headrace.testing.genes` returns them. The programmes of the cell types depend on
            this table and `seed` alone, so datasets that share both share their biology.
        seed
            The same seed gives the same counts.
        number
            The position among the organism's datasets, for the default `dataset_id`.

        Returns
        -------
        Dataset
            `X` is CSR, float32, `(n_obs, genes measured)`.

        Raises
        ------
        InputError
            The organism is unknown, or the table has fewer genes than asked for, or lacks one or a column.
        """
        check_organism(organism)
        check_genes(genes, "genes")
        dataset_id = self.dataset_id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{organism}/{number}"))
        rng = np.random.default_rng([seed, zlib.crc32(dataset_id.encode())])
        programmes, dispersion = _programmes(organism, genes, seed)
        measured = self._measured(genes, programmes, rng)
        var, dispersion = genes.iloc[measured], dispersion[measured]

        residents = RESIDENTS[self.tissue]
        rows = [list(CELL_TYPES).index(name) for name in residents]
        types = programmes[rows][:, measured] * np.exp(rng.normal(0, DATASET_SHIFT, len(var)))
        donors = np.exp(rng.normal(0, DONOR_SHIFT, (self.n_donors, len(var))))
        cell_type = rng.choice(len(residents), self.n_obs, p=rng.dirichlet(np.full(len(residents), 8.0)))
        donor = rng.permutation(np.arange(self.n_obs) % self.n_donors)
        bounds = np.rint(np.cumsum(list(self.fractions.values())) * self.n_obs).astype(np.intp)
        assay = rng.permutation(np.repeat(list(self.fractions), np.diff(bounds, prepend=0)))

        target = 0.2 * len(var) if self.nnz_per_cell is None else self.nnz_per_cell
        depth = _depth(types, dispersion, target) * np.exp(rng.normal(0, LIBRARY_SPREAD, self.n_obs))
        stress = rng.normal(0, STRESS_SPREAD, self.n_obs)
        mitochondrial = var["feature_name"].str.upper().str.startswith("MT-").to_numpy(np.float64)
        full_length = np.isin(assay, list(FULL_GENE_ASSAYS))
        lengths = var["feature_length"].to_numpy(np.float64)
        bands = []
        for start in range(0, self.n_obs, CELLS_AT_ONCE):
            cells = slice(start, start + CELLS_AT_ONCE)
            expression = types[cell_type[cells]] * donors[donor[cells]] * np.exp(np.outer(stress[cells], mitochondrial))
            counts = _molecules(expression, depth[cells], dispersion, rng)
            counts[full_length[cells]] = _reads(counts[full_length[cells]], lengths, rng)
            bands.append(sparse.csr_array(counts.astype(np.float32)))
        X = sparse.csr_array(sparse.vstack(bands))
        obs = self._describe(organism, assay, np.array(residents)[cell_type], donor, rng)
        assays = ", ".join(ASSAYS[name] for name in self.fractions)
        title = self.title or f"{self.tissue.capitalize()} - simulated {ORGANISMS[organism][0]} - {assays}"
        return Dataset(X, obs, var, dataset_id, title)

    def _measured(self, genes: pd.DataFrame, programmes: Floats, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """Choose the measured genes: their positions in `genes`, ascending."""
        if self.feature_ids is not None:
            measured = np.sort(genes.index.get_indexer(pd.Index(self.feature_ids)))
            if (measured < 0).any() or len(np.unique(measured)) < len(measured) or not len(measured):
                unknown = [feature_id for feature_id in self.feature_ids if feature_id not in genes.index]
                raise InputError(
                    f"feature_ids must name genes of the table, each once; not in it: {unknown[:3] or 'none'}"
                )
        else:
            n_vars = len(genes) if self.n_vars is None else self.n_vars
            if n_vars > len(genes):
                raise InputError(f"n_vars is {n_vars}, but the table has {len(genes)} genes; give more by `genes`")
            preference = 0.35 * np.log(programmes.mean(axis=0)) + rng.gumbel(size=len(genes))
            measured = np.sort(np.argsort(-preference)[:n_vars])
        if self.nnz_per_cell is not None and self.nnz_per_cell > 0.8 * len(measured):
            raise InputError(
                f"nnz_per_cell is {self.nnz_per_cell:g}, above four fifths of the {len(measured)} measured genes; "
                f"ask for less, or measure more genes"
            )
        return measured

    def _describe(
        self,
        organism: str,
        assay: npt.NDArray[np.str_],
        cell_type: npt.NDArray[np.str_],
        donor: npt.NDArray[np.intp],
        rng: np.random.Generator,
    ) -> pd.DataFrame:
        """Make the columns of obs that a dataset has."""
        tissue_id, organ, organ_id = TISSUES[self.tissue]
        if organism == "homo_sapiens":
            stage = [(f"{age}-year-old stage", f"HsapDv:{94 + age:07d}") for age in 20 + 7 * (donor % 8)]
            ethnicity = ("European", "HANCESTRO:0005")
        elif organism == "mus_musculus":
            stages = [("3-month-old stage", "MmusDv:0000063"), ("18-month-old stage", "MmusDv:0000089")]
            stage = [stages[old] for old in donor % 4 // 2]
            ethnicity = ("na", "na")
        else:
            stage, ethnicity = [("unknown", "unknown")] * self.n_obs, ("na", "na")
        alphabet = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
        female = donor % 2 == 0
        return pd.DataFrame(
            {
                "assay": [ASSAYS[name] for name in assay],
                "assay_ontology_term_id": assay,
                "cell_type": cell_type,
                "cell_type_ontology_term_id": [CELL_TYPES[name][0] for name in cell_type],
                "development_stage": [label for label, _ in stage],
                "development_stage_ontology_term_id": [term_id for _, term_id in stage],
                "disease": self.disease,
                "disease_ontology_term_id": BETWEEN_TERMS.join(
                    DISEASES[name] for name in self.disease.split(BETWEEN_TERMS)
                ),
                "donor_id": [f"donor_{number}" for number in donor],
                "is_primary_data": self.is_primary_data,
                "observation_joinid": ["".join(letters) for letters in rng.choice(alphabet, (self.n_obs, 10))],
                "self_reported_ethnicity": ethnicity[0],
                "self_reported_ethnicity_ontology_term_id": ethnicity[1],
                "sex": np.where(female, "female", "male"),
                "sex_ontology_term_id": np.where(female, "PATO:0000383", "PATO:0000384"),
                "suspension_type": "cell",
                "tissue": self.tissue,
                "tissue_ontology_term_id": tissue_id,
                "tissue_type": "tissue",
                "tissue_general": organ,
                "tissue_general_ontology_term_id": organ_id,
            }
        )


def _programmes(organism: str, genes: pd.DataFrame, seed: int) -> tuple[Floats, Floats]:
    """Draw the expression of each gene in each cell type (types x genes), and the size parameter of each gene."""
    rng = np.random.default_rng([seed, zlib.crc32(organism.encode())])
    symbols = genes["feature_name"].str.upper()
    biotypes = genes["feature_type"]
    rarity = np.select([biotypes == "protein_coding", biotypes == "lncRNA"], [0.0, 2.5], 4.0)
    level = rng.normal(0, 1.5, len(genes)) - rarity
    level[symbols.str.match(r"RP[SL]\d")] = 3.0
    level[symbols.str.startswith("MT-")] = 4.0
    level[symbols == "MALAT1"] = 5.0
    own = rng.random((len(CELL_TYPES), len(genes))) < 0.12  # genes that a type has its own view of
    log_expression = level + rng.normal(0, np.where(own, 1.3, 0.1))
    for row, (_, markers) in enumerate(CELL_TYPES.values()):
        marked = symbols.isin(markers)
        log_expression[:, marked] = -3.0
        log_expression[row, marked] = 4.0
    return np.exp(log_expression), np.exp(rng.normal(np.log(2.0), 0.6, len(genes)))


def _depth(types: Floats, dispersion: Floats, target: float) -> float:
    """Find the library size at which a cell shows `target` genes on average, by bisection."""
    shares = types / types.sum(axis=1, keepdims=True)
    low, high = 0.0, 25.0  # of the natural logarithm
    for _ in range(40):
        middle = (low + high) / 2
        seen = -np.expm1(-dispersion * np.log1p(np.exp(middle) * shares / dispersion))
        low, high = (middle, high) if seen.sum(axis=1).mean() < target else (low, middle)
    return float(np.exp(low))


def _molecules(
    expression: Floats, depth: Floats, dispersion: Floats, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw counts (cells x genes) with mean proportional to expression and variance mean + mean² / dispersion."""
    mean = expression * (depth / expression.sum(axis=1))[:, None]
    counts = rng.negative_binomial(dispersion, dispersion / (dispersion + mean)).astype(np.float64)
    empty = np.flatnonzero(~counts.any(axis=1))
    counts[empty, expression[empty].argmax(axis=1)] = 1.0  # every cell of the Census has a count
    return counts


def _reads(molecules: Floats, lengths: Floats, rng: np.random.Generator) -> Floats:
    """Amplify molecules into reads in proportion to length; what was there stays there."""
    weights = molecules * lengths * np.exp(rng.normal(0, AMPLIFICATION_SPREAD, molecules.shape))
    reads = np.exp(rng.normal(np.log(MEDIAN_READS), LIBRARY_SPREAD, len(molecules))).clip(LEAST_READS, MOST_READS)
    return np.asarray(np.ceil(weights * (reads / weights.sum(axis=1))[:, None]))
