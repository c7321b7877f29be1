"""Measurements that a stranger can repeat: `python -m benchmark --help`."""
