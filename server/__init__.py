"""HTTP and composition: the only folder that knows aiohttp. Start with `python -m server`."""
