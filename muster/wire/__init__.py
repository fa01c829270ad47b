"""The published language: what clients, data nodes and controllers say to each other. Pure."""
