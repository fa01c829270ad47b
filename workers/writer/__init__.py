"""The writer of a partition, and the ways in which commands reach it."""
