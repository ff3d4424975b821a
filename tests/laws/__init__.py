"""The three laws, each one suite for every implementation; see `registry`."""
