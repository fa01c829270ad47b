"""Failover groups: what runs a member and surely stops it, and who the primary is."""
