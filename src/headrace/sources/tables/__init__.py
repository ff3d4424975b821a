"""Bulk counts: tables of text, .h5ad files, or what is in memory."""
