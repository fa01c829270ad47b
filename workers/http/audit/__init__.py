"""The log's past over HTTP."""
