"""The rim: logs, codecs, stores and servers, each with a small port."""
