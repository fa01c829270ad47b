"""The HTTP face of a controller."""
