"""A controller as a process."""
