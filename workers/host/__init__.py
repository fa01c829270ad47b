"""All instances of one host in one process: registered from files, checked from beside them, and heard in messages of many."""
