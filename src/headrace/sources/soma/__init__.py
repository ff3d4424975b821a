"""The Census, and any SOMA experiment."""

from ...errors import without_docstrings

try:
    import tiledbsoma  # noqa: F401 # whichever module is asked for, it needs this first
except AttributeError as error:
    raise without_docstrings(error) from error
