"""Health checks of instances."""
