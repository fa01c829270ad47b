"""The read models of services: their instances, what has happened to those, and what their clients are told."""
