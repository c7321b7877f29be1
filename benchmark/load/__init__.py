"""An open-loop load generator that knows every answer: `python -m benchmark load`."""
