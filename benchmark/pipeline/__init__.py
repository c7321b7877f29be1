"""Decode and engine without HTTP: the limit of a machine, and its engines beside each other."""
