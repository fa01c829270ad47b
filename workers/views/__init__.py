"""The read models of a controller in memory, and their snapshots."""
