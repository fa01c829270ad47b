"""Processes of the cases about balancing: the instances that are called, and who calls them."""
