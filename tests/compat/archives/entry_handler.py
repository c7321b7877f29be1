"""A handler that is a function of another name than `handle`."""


def work(data, context):
    return None if data is None else [f"entry {len(data)}" for _ in data]
