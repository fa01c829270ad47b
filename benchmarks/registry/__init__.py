"""Benchmarks of registrations, watches, discovery and checks."""
