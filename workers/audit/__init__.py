"""The log read from outside a controller: replayed and verified."""
