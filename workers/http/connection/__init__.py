"""HTTP connections: how their bytes leave, and what one of them may take from the others."""
