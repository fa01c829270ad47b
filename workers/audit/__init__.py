"""The log read by a stranger to it: replayed and verified."""
