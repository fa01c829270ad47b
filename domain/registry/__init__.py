"""Services and their instances."""
