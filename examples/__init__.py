"""Small real services that use muster, and a demonstration that runs them."""
