"""Heartbeats and loads as topics on Kafka: what was before is read again, what is found is published, rows are followed."""
