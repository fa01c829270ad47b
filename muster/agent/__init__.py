"""A data node's agent, for any store: joins, holds its lease, and does what moves of shards want of it."""
