"""Local .h5ad files."""
