"""`POST /classify`."""
