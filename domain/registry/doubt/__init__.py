"""Checks that fail together: their events, and the second opinion of the service's clients."""
