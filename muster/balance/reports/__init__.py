"""What a balancer tells the controllers of the instances that it calls."""
