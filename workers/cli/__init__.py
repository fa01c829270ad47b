"""The commands that run the server's own code; `muster` finds them by their entry points."""
