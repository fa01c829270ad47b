"""Benchmarks of the log: starts, projector, verification, memory, failover."""
