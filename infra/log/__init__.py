"""The event log: its port, its codec, its chain rule, and what all its implementations share."""
