"""A data node: the gRPC service over its store, and the driver that moves its shards."""
