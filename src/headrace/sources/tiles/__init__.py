"""X read from TileDB's own files, without TileDB: at the speed of the disk or the line.

Reads sparse arrays as the Census has them, after TileDB's format specification
(https://github.com/TileDB-Inc/TileDB/tree/main/format_spec); `gate` says which, and why not the others.
"""

from .gate import open_fragments
from .generic import Declined
from .readahead import Line
from .rows import TileReader

__all__ = ["Declined", "Line", "TileReader", "open_fragments"]
