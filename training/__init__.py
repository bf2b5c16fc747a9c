"""Loops that make weights: the mini model family, and later the adapters and planners."""
