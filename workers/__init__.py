"""Short loops around the core: read a batch, fold, decide, append."""
