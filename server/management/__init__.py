"""The API that changes the models while the server runs, on a port of its own."""
