"""What telemetry makes of heartbeats: who is silent, who is heard, what a service has to do. It suspects; the writer decides."""
