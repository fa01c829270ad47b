"""Streams of server-sent events, and their readers."""
