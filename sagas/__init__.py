"""Processes of many steps, as pure deciders."""
