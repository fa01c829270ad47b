"""Several controllers: which are there, which of them writes a partition, and what they ask of each other."""
