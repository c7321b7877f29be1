"""HTTP and composition: the only folder that imports aiohttp. Start with `python -m server`."""
