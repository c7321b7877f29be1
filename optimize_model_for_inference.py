#!/usr/bin/env python3
"""Optimises an image classifier for this machine and writes it as a bundle; see --help and models/optimize/."""

import signal
import sys

from models.optimize.command import main

if __name__ == "__main__":
    # Like Ctrl-C, so that the half-made bundle is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
