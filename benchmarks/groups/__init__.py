"""Cases of failover groups: how soon another member leads, how long nobody does, and what their members cost."""
