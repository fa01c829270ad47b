"""Failover groups as everyone outside sees them."""
