"""Streams of server-sent events, and who reads them."""
