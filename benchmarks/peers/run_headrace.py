"""headrace itself, from SOMA or h5ad.  Options: memory=1GB, assay=EFO:... (of the cells to take)."""

import warnings

from job import GROUPS, MAX_VALUE, MIN_CELLS, MIN_GENES, N_COMPS, N_TOP_GENES, ORGANISM, TARGET_SUM, Job

from headrace import (
    PCA,
    FilterCells,
    FilterGenes,
    HighlyVariableGenes,
    Log1p,
    MemoryBudgetError,
    NormalizeTotal,
    Plan,
    QCMetrics,
    RankGenesGroups,
    Scale,
    open_census,
    open_h5ad,
    recipes,
)

job = Job()
warnings.simplefilter("ignore")
options = dict(option.split("=", 1) for option in job.options)
memory = options.get("memory", "1GB")


def peak_so_far() -> int:
    """Return the most bytes this process has held."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


if job.input.endswith(".h5ad"):
    source = open_h5ad(job.input)
else:
    assay = f"assay_ontology_term_id == '{options['assay']}'" if "assay" in options else None
    source = open_census(job.input).query(ORGANISM, genes="all", obs_filter=assay)

normalize = [NormalizeTotal(TARGET_SUM), Log1p()]
choose = HighlyVariableGenes(n_top_genes=N_TOP_GENES, flavor=job.flavor or "seurat")
filters = [QCMetrics({"mt": "MT-"}, percent_top=()), FilterCells(min_genes=MIN_GENES), FilterGenes(min_cells=MIN_CELLS)]
steps = {
    "nlh": [*normalize, choose],
    "nlh_gzip": [*normalize, choose],
    "nlh_v3": [choose, *normalize],
    "hvg": [choose],
    "qc": [*filters, choose, *normalize],
    "pca": [*normalize, choose, Scale(max_value=MAX_VALUE, store=False), PCA(N_COMPS)],
    "markers": [*normalize, RankGenesGroups(GROUPS, method="wilcoxon")],
    "markers_t": [*normalize, RankGenesGroups(GROUPS, method="t-test")],
    "full_length": recipes.full_length(),
}[job.name]

plan = Plan(source, steps)
try:
    predicted = plan.explain(memory=memory).peak_memory
except MemoryBudgetError as error:
    job.cannot(f"refused: {error}")
if job.writes:
    var = plan.write_h5ad(job.output, memory=memory, overwrite=True, compression=job.compression, resume=False).var
else:
    var = plan.var(memory=memory)
chosen = (var.index, var["highly_variable"]) if job.flavor else ()
job.done(*chosen, predicted=predicted, peak=peak_so_far(), nnz=source.cost().nnz)
