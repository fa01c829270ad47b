"""What the machine does without muster, with the same bytes: what our figures are held against."""
