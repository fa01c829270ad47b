"""Failover groups: what runs a member and surely stops it, who the primary is, and how a resource refuses a stale one."""
