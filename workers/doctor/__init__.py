"""Examines what muster stands on, and says what to change."""
