"""Failover groups: one of several members is the primary, and never two."""
