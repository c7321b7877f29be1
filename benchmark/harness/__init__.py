"""What all measurements use: servers, clients, photos, results."""
