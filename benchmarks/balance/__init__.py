"""Balancing: what a pick costs a caller."""
