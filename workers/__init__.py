"""Everything heavy, each job in its own process. Knows nothing of the studio or of Qt."""
