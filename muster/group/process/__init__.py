"""What a runner starts: processes, of which none outlives the right to run."""
