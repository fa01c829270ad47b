"""The rim: logs, codecs, stores and servers, each behind a small port."""
