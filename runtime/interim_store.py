"""What `ModelStore` is to have and does not yet. Not to stay."""

from __future__ import annotations

from runtime.errors import ModelRefused
from runtime.store import ModelStore


class InterimStore(ModelStore):
    """Refuses to scale."""

    async def scale(self, name: str, number: str, processes: int) -> None:
        """See `server.control.Store`."""
        raise ModelRefused("The number of processes cannot be changed yet.")
