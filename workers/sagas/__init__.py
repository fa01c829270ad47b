"""What carries out the wishes of sagas."""
