"""Commands about keyspaces, data nodes, migrations, and the values in keyspaces."""
