"""How a resource refuses who was the primary of a failover group and is none any more."""
