"""Keyspaces, shards and data nodes as everyone outside sees them, from a key to its shard, and what a store promises."""
