"""The service `quotes`: it says prices, as quickly as it is told to."""
