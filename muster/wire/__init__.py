"""The published language: what clients, data nodes and controllers say to each other. Pure."""

from typing import Final

DEFAULT_URL: Final = "http://127.0.0.1:8740"
"""Where a controller listens and clients look for it, unless an option says otherwise."""
