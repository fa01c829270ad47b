"""The pure core: what may happen, and what it means. No clocks, sockets, files or randomness."""
