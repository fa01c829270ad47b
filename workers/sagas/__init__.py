"""Carries out the actions of sagas that concern other streams, and what keyspaces need between sagas."""
