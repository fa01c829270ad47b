"""The client of a keyspace: values by key, wherever their shard is served."""
