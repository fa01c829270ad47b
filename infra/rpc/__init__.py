"""The data nodes' gRPC service: its definition, and the code generated from it (`python -m docs.generate`)."""
