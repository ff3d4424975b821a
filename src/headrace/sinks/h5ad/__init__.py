""".h5ad files: written, and verified."""
