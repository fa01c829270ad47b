"""The read models in PostgreSQL, kept up with the log."""
