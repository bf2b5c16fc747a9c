"""A synthetic world with known truth: scenes, renderer, captions, and an oracle that judges frames alone."""
