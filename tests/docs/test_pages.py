"""The documentation: its commands run, its links lead somewhere, and every public name is in it with an example."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

import headrace as hr
from headrace.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts and "generated" not in path.parts)
BLOCK = re.compile(r"^```(python|console|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.mark.filterwarnings("ignore")  # of what the pages use beside headrace
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_commands_and_code_run(
    page: Path, demo_census: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if "$ headrace demo" not in page.read_text():
        Path("demo").mkdir()
        Path("demo/census").symlink_to(demo_census)
    names: dict[str, object] = {}
    said = ""
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "python":
            exec(compile(text, f"{page.name}", "exec"), names)
            said = ""
        elif kind == "text":
            for line in text.splitlines():  # what the commands above it say; "…" is anything
                pattern = r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split())
                assert re.search(f"^{pattern}$", said, re.MULTILINE), (line, said)
        else:
            capsys.readouterr()
            for line in text.splitlines():
                command = shlex.split(line.removeprefix("$ "))
                assert command[0] == "headrace"
                assert main(command[1:]) == 0, (line, capsys.readouterr().err)
            said = "".join(capsys.readouterr())


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_public_name_is_in_the_reference_with_an_example() -> None:
    listed = set(re.findall(r"^   (\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert set(hr.__all__) - {"recipes"} - listed == set()
    plain = [name for name in hr.__all__ if inspect.isfunction(getattr(hr, name))]
    assert [name for name in plain if ">>> " not in (getattr(hr, name).__doc__ or "")] == []
    steps = [
        name
        for name in hr.__all__
        if (getattr(hr, name).__module__ if hasattr(getattr(hr, name), "__module__") else "").startswith(
            "headrace.steps."
        )
        and not name.endswith("Warning")
    ]
    assert [name for name in steps if ">>> " not in (getattr(hr, name).__doc__ or "")] == []
