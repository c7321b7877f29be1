"""Two classes and no function: which one is meant is not said."""


class First:
    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        return ["first" for _ in data]


class Second(First):
    pass
