"""The client of a controller: registry, shards, watches."""
