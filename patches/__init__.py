"""How each technique is attached to a MODEL: one file per technique, `apply(model, config) -> model`."""
