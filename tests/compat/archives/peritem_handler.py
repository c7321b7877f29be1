"""Rejects some items of a batch and answers the others."""


class PerItem:
    """A class without a base: items that start with `bad` get status 400."""

    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        texts = [bytes(row["body"]).decode() for row in data]
        return [self._answer(index, text, len(texts), context) for index, text in enumerate(texts)]

    @staticmethod
    def _answer(index, text, size, context):
        if text.startswith("bad"):
            context.set_response_status(400, "bad item", index)
            context.set_response_content_type(index, "application/json")
            return {"error": f"item {index} is bad", "batch": size}
        return {"ok": text, "batch": size, "index": index}
