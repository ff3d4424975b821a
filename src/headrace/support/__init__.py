"""Memory, temporary files, threads and atomic writes: what both ends of a stream use."""
