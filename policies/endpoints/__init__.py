"""Ways to choose an endpoint among those that have room."""
