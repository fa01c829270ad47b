"""Traffic on a sharded keyspace that keeps a journal, and a checker that believes nobody: for the demonstration and the tests."""
