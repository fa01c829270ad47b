"""Real servers as our children, for trying out and for tests."""
