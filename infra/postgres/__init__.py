"""Read models as tables in PostgreSQL."""
