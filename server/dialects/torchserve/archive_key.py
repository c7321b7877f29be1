"""The key that archives want on the ports that are not TorchServe's."""

from __future__ import annotations

from collections.abc import Callable

from runtime.archive_settings import Registered
from runtime.errors import RuntimeFault
from runtime.store import ModelStore
from runtime.version import AnyModel
from server.dialects.torchserve.keys import INFERENCE, KeyFile
from server.http.faults import Unauthorized


class ArchiveKey:
    """Without it every key of TorchServe's ports could be passed by on the service's own, and over gRPC."""

    def __init__(
        self, keys: KeyFile, store: ModelStore, archive_of: Callable[[AnyModel], Registered | None]
    ) -> None:
        """Creates it.

        Args:
            keys: of TorchServe's ports.
            store: of the models.
            archive_of: how the archive of a model is run; None of another model.
        """
        self._keys = keys
        self._store = store
        self._archive_of = archive_of

    def check(self, name: str | None, version: str | None, authorization: str) -> None:
        """Checks a request to a model.

        Args:
            name: of the model; None for the default one.
            version: of it; None for the default one.
            authorization: the request's header; "" where there is none.

        Raises:
            Unauthorized: the model is an archive's, and the header has not the key for inference.
        """
        try:
            model = self._store.model(name, version)
        except RuntimeFault:  # the request hears of it where it uses the model
            return
        if self._archive_of(model) and not self._keys.is_allowed(INFERENCE, authorization):
            raise Unauthorized("Archives are asked with the inference key of key_file.json.")
