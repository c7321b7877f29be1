"""Handlers of model archives, and what makes their weights: README.md has the commands."""
