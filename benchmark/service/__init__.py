"""The server under load: its way through HTTP, its event loop, its batching, its use of a GPU."""
