"""How Sphinx builds the documentation: `make docs`. Nothing is fetched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import headrace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
# what myst-nb starts finds nothing else: the notebooks run with this Python
os.environ.setdefault("HEADRACE_CACHE", "off")

project = "headrace"
author = copyright = "The headrace developers"  # noqa: A001 # Sphinx's own name
version = release = headrace.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "scanpydoc.theme",
    "sphinxcontrib.bibtex",
    "sphinx_copybutton",
    "mathml",
    "returns",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "_templates", "**.ipynb_checkpoints"]
html_theme = "scanpydoc"
html_title = "headrace"
html_static_path = ["_static"]
html_css_files = ["headrace.css"]
html_show_sphinx = False
html_math_renderer = "mathml"
default_role = "py:obj"  # `name` in a docstring: a link where the name is one of ours, else code

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "docs" / "_build" / ".notebooks")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

bibtex_bibfiles = ["references.bib"]
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False

# inventories of others are fetched only where there is a network (Read the Docs); elsewhere names of others are text
online = os.environ.get("READTHEDOCS") == "True"
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
    }
    if online
    else {}
)
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!headrace\.).*"),
    ("py:.*", r"headrace\.(?:sources|sinks|steps|engine|stats|chunk|presence|rows|scaling)\..*"),
]
suppress_warnings = [
    "myst.xref_missing",
    "mystnb.unknown_mime_type",
    "misc.highlighting_failure",
]  # mermaid is drawn as a picture
