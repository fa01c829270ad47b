"""Cases of failover groups: how soon another member leads, and how long nobody does."""
