"""What became of the requests of a workload, counted."""
