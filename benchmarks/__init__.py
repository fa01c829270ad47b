"""What muster costs, beside the floor of the same machine in the same run. `make bench` prints the table."""
