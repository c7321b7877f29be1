"""Handwritten digits: trains the demo bundle `models/demo`, measures it, and draws images to try it with."""
