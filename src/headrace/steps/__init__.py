"""Steps: transforms of a chunk, and fits that become one."""
