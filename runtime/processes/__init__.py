"""Engines in processes of their own: a spare process, and the children that are forked from it."""
