"""The log, the commands and the snapshots as Kafka topics."""
