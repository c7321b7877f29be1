"""A label of a metric."""

from __future__ import annotations


class Dimension:
    """Name and value.

    Attributes:
        name: of the label.
        value: of the label.
    """

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"

    def to_dict(self) -> dict[str, str]:
        """As a JSON object."""
        return {"Name": self.name, "Value": str(self.value)}
