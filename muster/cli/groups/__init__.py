"""The commands about failover groups."""
