"""What a query of a Census warns of."""

from __future__ import annotations


class DuplicateCellsWarning(UserWarning):
    """A query holds cells that are also in other datasets of the Census.

    Examples
    --------
    >>> import tempfile, warnings, headrace as hr, headrace.testing
    >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     human = census.query("homo_sapiens")
    >>> print(told[0].message)
    250 of 2650 cells are duplicates of cells in other datasets (is_primary_data is False); ...
    >>> human = census.query("homo_sapiens", primary_only=True)  # says nothing: it was decided
    """


class FewGenesWarning(UserWarning):
    """Few genes were measured in every dataset of a query.

    Examples
    --------
    >>> import warnings, headrace as hr
    >>> warnings.filterwarnings("error", category=hr.FewGenesWarning)  # stop, rather than go on with few genes
    """
