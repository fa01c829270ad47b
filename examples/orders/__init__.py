"""The service `orders`: it finds `users` through muster and calls it."""
