"""The demo bundle: handwritten digits, classified by a small network that `examples/digits/train.py` trained."""
