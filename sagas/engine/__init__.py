"""The engine of all sagas, and what an author writes for it. Pure."""
