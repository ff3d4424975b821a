"""The Census, and any SOMA experiment."""
