"""PostgreSQL as a failover group: the hooks of a member, and a cluster of three to try them on. See docs/postgresql.md."""
