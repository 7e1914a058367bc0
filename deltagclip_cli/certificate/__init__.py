"""What of the convergence theorem held in a run, line by line."""
