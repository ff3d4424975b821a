"""The documentation: its commands run, its links lead somewhere, and every public name is in it with an example."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import headrace as hr
from headrace import events, protocols, recipes, testing
from headrace.cli import main
from headrace.steps import normalize

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


def test_the_readme_runs(
    demo_census: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a new user copies, on the simulated Census."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS.parent / "README.md").read_text().replace("2025-11-08", str(demo_census))
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert Path("liver.html").stat().st_size > 10_000
    commands = re.findall(r"^headrace (?:datasets|explain|export)(?:.*\\\n)*.*$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command.replace("\\\n", " "))[1:]
        assert main([*words, *(["--overwrite"] if words[0] == "export" else [])]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_public_name_is_in_the_reference() -> None:
    listed = set(re.findall(r"^   ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    names = set(hr.__all__) - {"recipes"}
    assert names | {f"recipes.{name}" for name in public(recipes)} | {"protocols", "events", "testing"} == listed


def public(module: ModuleType) -> list[str]:
    """Return the functions and classes that a module defines, but for those with an underscore."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def documented(name: str) -> str:
    """Return the docstring of a public name; that of a value stands below it in its module."""
    value = getattr(hr, name)
    if inspect.isfunction(value):
        return value.__doc__ or ""
    if inspect.isclass(value):
        return vars(value).get("__doc__") or ""  # not that of a base class
    source = Path(inspect.getfile(normalize)).read_text()
    body = ast.parse(source).body
    at = next(
        i
        for i, node in enumerate(body)
        if isinstance(node, ast.AnnAssign | ast.Assign)
        and name in {target.id for target in ast.walk(node) if isinstance(target, ast.Name)}
    )
    return ast.literal_eval(body[at + 1].value)  # type: ignore[attr-defined]


def test_no_public_name_lacks_an_example() -> None:
    assert [name for name in hr.__all__ if name != "recipes" and ">>> " not in documented(name)] == []
    assert [name for name in public(recipes) if ">>> " not in (getattr(recipes, name).__doc__ or "")] == []
    assert [name for name in testing.__all__ if ">>> " not in (getattr(testing, name).__doc__ or "")] == []
    # one example shows all events; the contracts have a page of code that runs
    assert [name for name in public(events) if name[0].isupper() and f"{name}(" not in (events.__doc__ or "")] == []
    code = "".join(text for kind, text in BLOCK.findall((DOCS / "own.md").read_text()) if kind == "python")
    assert [name for name in public(protocols) if name != "Step" and not re.search(rf"\({name}\b", code)] == []


def test_the_example_of_a_value_runs() -> None:
    """Doctest finds those of functions and classes by itself."""
    test = doctest.DocTestParser().get_doctest(documented("FULL_GENE_ASSAYS"), {}, "FULL_GENE_ASSAYS", None, 0)
    assert test.examples
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0
