"""Telemetry as everyone outside sees it: what instances say of themselves by the thousand, and what is made of it."""
