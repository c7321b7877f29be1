"""Encoded images -> the pixels that a network takes."""
