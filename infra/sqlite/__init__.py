"""The log and the snapshots in a folder of this machine."""
