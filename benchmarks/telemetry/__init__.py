"""The telemetry tier: what a worker costs, how soon silence is found, and that nobody is found silent falsely."""
