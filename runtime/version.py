"""One version of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.arrival import Arrival
from runtime.model import Model
from runtime.stay import AnyDeployment, Stay

AnyModel = Model[Any, Any]


class Version:
    """One version of a model: known, loading or loaded.

    Attributes:
        name: of the model.
        number: of the version.
        is_resident: it is not evicted.
        is_idle: it has no workers: requests are refused, whether it is loaded or not, or wait for `arrival`.
        arrival: of its workers, for which requests wait; None where none are being started.
        stay: in memory; None while it is only known.
        asked: a number that grows: when it was last asked for.
        memory: bytes that it took when it was last loaded; 0: it was not.
    """

    def __init__(
        self,
        name: str,
        number: str,
        open_model: Callable[[], AnyModel],
        is_resident: bool = True,
        on_freed: Callable[[], None] | None = None,
    ) -> None:
        """Creates it; nothing is opened.

        Args:
            name: of the model.
            number: of the version.
            open_model: reads and checks its files, on a thread. Raises ModelError, UnknownModel.
            is_resident: it is not evicted.
            on_freed: called after it was freed, or could not be loaded.
        """
        self.name = name
        self.number = number
        self.is_resident = is_resident
        self.is_idle = False
        self.arrival: Arrival | None = None
        self.stay: Stay | None = None
        self.asked = 0
        self.memory = 0
        self.open_model = open_model
        self.on_freed = on_freed

    def end_arrival(self, has_come: bool) -> None:
        """Lets the requests go on that wait for workers; has_come: whether there are any."""
        arrival, self.arrival = self.arrival, None
        if arrival is not None:
            arrival.end(has_come)

    @property
    def deployment(self) -> AnyDeployment | None:
        """What is loaded."""
        return self.stay.deployment if self.stay else None
