"""Keyspaces, data nodes, migrations and tasks over HTTP."""
