"""`muster telemetry`: a worker of the telemetry tier, a thin Faust application around `domain.telemetry`."""
