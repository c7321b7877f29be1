"""Serves models within one process. No HTTP: `server` is one of its users."""
