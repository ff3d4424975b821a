"""Where chunks go."""
