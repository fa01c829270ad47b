"""What must hold for every saga and shard at every position of the log."""
