"""The demonstration: real services under a controller, with failures, and every claim checked."""
