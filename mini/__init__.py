"""The mini model family of MiniWorld: models, data, training, scores and weights. For development; not shipped with the
pack."""
