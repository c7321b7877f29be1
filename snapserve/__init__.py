"""SnapServe: serve an image classifier from Python."""

__version__ = "0.1.0"
__all__ = ["__version__"]
