"""Keyspaces, their shards, data nodes, and the slots of moves."""
