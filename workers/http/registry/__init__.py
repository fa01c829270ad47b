"""Services and instances over HTTP."""
