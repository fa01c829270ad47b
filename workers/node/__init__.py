"""A data node's inside: the shards' service over the store, and the driver that moves them."""
