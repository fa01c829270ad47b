"""Several controllers: who is there, who writes what, and what they ask of each other."""
