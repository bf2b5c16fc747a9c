"""Paired measurements against the unpatched host and against peers; results in results/."""
