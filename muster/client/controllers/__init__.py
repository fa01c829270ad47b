"""Which controllers a client may ask, in which order, and how it learns of others."""
