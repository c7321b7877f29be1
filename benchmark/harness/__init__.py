"""Servers, clients, photos and results, for all measurements."""
