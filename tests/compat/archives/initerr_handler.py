"""A handler that cannot start."""


class InitError:
    """Raises while it initializes."""

    def initialize(self, context):
        raise RuntimeError("this handler never starts")

    def handle(self, data, context):
        return data
