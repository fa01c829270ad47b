"""What operators do through a client: keyspaces and data nodes, sagas, failover groups."""
