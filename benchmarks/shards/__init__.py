"""Benchmarks of keyspaces, moves and sagas."""
