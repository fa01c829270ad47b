"""Pure definitions of the read models: one fold per question."""
