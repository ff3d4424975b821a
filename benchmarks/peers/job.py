"""What a peer's script is told, and what it says when it is done. Standard library only: it runs in every environment.

    python run_NAME.py JOB INPUT OUTPUT GENES [option ...]

JOB is a key of `harness/jobs.py`. OUTPUT is the h5ad file to write, GENES a text file for the ids of the highly
variable genes, one a line. The last line of output is JSON: seconds until the imports were done, and in all.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

N_TOP_GENES = 2000
TARGET_SUM = 1e4
MIN_GENES = 500
MIN_CELLS = 5
MAX_VALUE = 10
N_COMPS = 50
GROUPS = "cell_type"
ORGANISM = "homo_sapiens"


class Job:
    """One job, from the command line. Made when the imports are done.

    Attributes
    ----------
    name
        A key of `harness/jobs.py`.
    flavor
        Of highly variable genes: "seurat" after the logarithm, "seurat_v3" on counts; "" for none.
    method
        Of markers; "" for none.
    writes, filters
        Whether X is to be written, and whether QC and filters come first.
    compression
        Of what is written.
    """

    def __init__(self) -> None:
        self.imports = age()
        self.name, self.input, self.output, self.genes, *self.options = sys.argv[1:]
        self.method = {"markers": "wilcoxon", "markers_t": "t-test"}.get(self.name, "")
        self.flavor = "seurat" if self.name in ("nlh", "nlh_gzip", "pca") else "" if self.method else "seurat_v3"
        self.writes = self.name not in ("hvg", "scan")
        self.filters = self.name == "qc"
        self.compression = "gzip" if self.name == "nlh_gzip" else None
        Path(self.output).unlink(missing_ok=True)

    def cannot(self, why: str) -> NoReturn:
        """End: this program has no way to do the job."""
        print(f"cannot: {why}")
        sys.exit(42)

    def done(self, names: Iterable[str] | None = None, chosen: Iterable[bool] = (), **more: object) -> None:
        """Write down the genes and the times.

        Parameters
        ----------
        names, chosen
            Gene ids, and whether each is highly variable.
        more
            Anything else worth keeping with the result.
        """
        if names is not None:
            lines = [f"{name}\n" for name, yes in zip(names, chosen, strict=True) if yes]
            Path(self.genes).write_text("".join(lines))
        print(json.dumps({"imports": self.imports, "inside": age(), **more}))


def age() -> float:
    """Return the seconds since this process started."""
    after_boot = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - after_boot
