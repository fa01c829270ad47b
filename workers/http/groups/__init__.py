"""Failover groups over HTTP."""
