"""Failover groups: what runs a member and makes sure that it stops, who the primary is, and how a resource refuses a stale one."""
