"""Bundles, engines and pictures: everything that the server and the optimiser share. Knows no HTTP."""

import os

# torch's warnings from C++ are for who writes programs with it; on the terminal of a server they are noise.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
