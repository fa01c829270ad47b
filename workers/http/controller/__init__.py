"""What a controller says of itself over HTTP, and what controllers ask of each other."""
