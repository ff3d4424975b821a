"""Statistics of cells and genes that can be merged."""
