"""The examples of the docstrings run; where they build the demo Census, they get a copy of that of all tests."""

from __future__ import annotations

import doctest
import importlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import headrace

PACKAGE = Path(headrace.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)
pytestmark = pytest.mark.skipif(np.__version__.startswith("1."), reason="numpy 1 shows numbers in another way")


def examples(module: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(module), module)
    return [one for one in found if one.examples]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str, demo_census: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def demo(path: str) -> Path:
        return Path(shutil.copytree(demo_census, path, dirs_exist_ok=True))

    monkeypatch.setattr("headrace.testing.build_demo_census", demo)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    for one in examples(module):
        doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(one, out=said.append)
    assert not said, "".join(said)


ELSEWHERE = {"headrace.steps.normalize": 2}
"""Lines of examples of values, which the finder does not see: `tests/docs/test_pages.py` runs them."""


def test_no_example_is_overlooked() -> None:
    """As many lines begin one as the finder sees."""
    for module in MODULES:
        source = Path(importlib.import_module(module).__file__ or "").read_text()
        written = sum(line.lstrip().startswith(">>> ") for line in source.splitlines())
        assert sum(len(one.examples) for one in examples(module)) == written - ELSEWHERE.get(module, 0), module
