"""Serves models within one process: no HTTP."""
