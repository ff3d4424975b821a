"""What a function returns, where its docstring says it in a sentence: napoleon would take that for a type."""

from __future__ import annotations

from typing import Any


def sentence(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a field of a section "Returns" that is a sentence."""
    del app, what, name, obj, options
    for at, line in enumerate(lines[:-1]):
        if line.strip() != "Returns" or set(lines[at + 1].strip()) != {"-"}:
            continue
        end = at + 2
        while end < len(lines) and lines[end].strip():
            end += 1
        said = lines[at + 2 : end]
        if any(one.startswith(" ") for one in said):
            continue  # a type, and below it what it is
        lines[at:end] = ["", f":returns: {said[0].strip()}", *(f"    {one.strip()}" for one in said[1:]), ""]
        return


def setup(app: Any) -> dict[str, bool]:
    """Join Sphinx, before napoleon."""
    app.connect("autodoc-process-docstring", sentence, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
