"""A service of which only one copy may work at a time: it writes a ledger, as the primary of a failover group."""
