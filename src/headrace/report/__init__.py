"""The page that reports on a run: pictures, tables, text. It knows what is kept of a run, and no step."""
