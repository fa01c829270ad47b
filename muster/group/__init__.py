"""Failover groups for those who use them: who the primary is, and how a resource refuses one that is none any more."""
