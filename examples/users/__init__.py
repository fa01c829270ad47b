"""The service `users`: users can be created and fetched."""
