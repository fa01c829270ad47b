"""Sagas over HTTP, whatever their root is: where each stands, and what an operator may do to it."""
