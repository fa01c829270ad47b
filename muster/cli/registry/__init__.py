"""Commands about services and instances."""
