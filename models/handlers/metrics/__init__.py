"""Metrics that handlers add to."""
