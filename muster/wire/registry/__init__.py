"""Services and instances as everyone outside sees them, and what an instance says of itself."""
