"""A small Census on local disk, physically like the real one: the demo, the tests and the benchmarks run on it.

    root = build_demo_census("census")                       # seven simulated datasets, two organisms
    root = build_census("census", {"mus_musculus": [Dataset.from_anndata(adata, dataset_id="mine")]})

What comes out is opened like the Census itself: ``cellxgene_census.open_soma(uri=str(root))``.
"""

from headrace.testing.build import build_census
from headrace.testing.datasets import Dataset, genes
from headrace.testing.demo import build_demo_census
from headrace.testing.simulate import SimulatedDataset

__all__ = ["Dataset", "SimulatedDataset", "build_census", "build_demo_census", "genes"]
