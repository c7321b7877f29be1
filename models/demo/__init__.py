"""The demo bundle: handwritten digits, read by a small network that was trained by `models/demo/train.py`."""
