"""An export as in a container: a read-only root, no home, one small folder that can be written.

    python tests/faults/readonly.py

The same as examples/Dockerfile and `docker run --read-only`, in mounts of its own. The loops that it needs are compiled
before into a folder that it can only read, as that image has them; then once more without that folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

INSIDE = """
set -e
mount -t tmpfs -o size=200m tmpfs "$1"
mount -o remount,bind,ro /
cd "$1"
shift
exec "$@"
"""
EXPORT = ("--min-cells", "2", "--target-sum", "1e4", "--log1p", "--hvg", "20")


def inherited() -> dict[str, str]:
    """Return the environment without what says where or for what numba compiles."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG", "PYTHON"))}


def run(writable: Path, source: Path, out: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an export where only one folder can be written."""
    path = os.pathsep.join(sys.path[1:])
    command = [sys.executable, "-B", "-m", "headrace", "export", "--h5ad", str(source), *EXPORT, "--out", out]
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", INSIDE, "bash", str(writable), *command],
        env=inherited() | {"HOME": "/nonexistent", "TMPDIR": str(writable), "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> int:
    """Run it with code that was compiled before, and with none."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        print("needs mounts of its own")
        return 77
    import anndata
    import numpy as np
    from scipy import sparse

    figures: dict[str, Any] = {}
    failures = 0
    with tempfile.TemporaryDirectory(prefix="headrace-readonly-") as name:
        folder = Path(name)
        (folder / "writable").mkdir()
        X = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (200, 60)).astype(np.float32))
        anndata.AnnData(X).write_h5ad(folder / "in.h5ad")
        compiled = str(folder / "numba")
        before = [sys.executable, "-m", "headrace", "export", "--h5ad", folder / "in.h5ad", *EXPORT]
        environment = inherited() | {"NUMBA_CACHE_DIR": compiled, "PYTHONPATH": os.pathsep.join(sys.path[1:])}
        subprocess.run([*before, "--out", folder / "x.h5ad"], env=environment, check=True)
        for what, cache in (("compiled before", compiled), ("nothing compiled", "/nonexistent")):
            done = run(folder / "writable", folder / "in.h5ad", "out.h5ad", NUMBA_CACHE_DIR=cache)
            warned = done.stderr.count("warning: compiled code cannot be kept")
            figures[what] = {"exit_code": done.returncode, "warnings": warned, "said": done.stderr.strip().splitlines()}
            failures += done.returncode != 0 or "wrote out.h5ad" not in done.stderr
            failures += warned > (what == "nothing compiled")
    print(json.dumps({**figures, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
