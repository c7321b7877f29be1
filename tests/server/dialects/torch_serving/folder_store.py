"""A small store that opens models on first use: what the dialect needs of the real one."""

from __future__ import annotations

import asyncio
import contextlib

from runtime.errors import ModelLoading, UnknownModel


class FolderStore:
    """Models by their path below a folder, opened once each, kept until they are forgotten."""

    ready = True

    def __init__(self, root, open_source, deploy):
        """Creates it.

        Args:
            root: folder of the models.
            open_source: name and file -> model, on a thread; raises ModelError.
            deploy: model -> deployment that is not started.
        """
        self._root, self._open, self._deploy = root.resolve(), open_source, deploy
        self._opening = {}

    def peek(self, name, version=None):
        """The deployment, or None where it would have to be opened. Raises UnknownModel where that is known."""
        if name not in self._opening:
            self._resolve(name)
            return None
        task = self._opening[name]
        return task.result() if task.done() and not task.exception() else None

    @contextlib.asynccontextmanager
    async def use(self, name, version=None):
        """The deployment, opened if need be."""
        if name not in self._opening:
            self._opening[name] = asyncio.ensure_future(self._load(name, self._resolve(name)))
        try:
            deployment = await asyncio.shield(self._opening[name])
        except Exception:
            self._opening.pop(name, None)
            raise
        yield deployment

    async def forget(self, name):
        """Closes the deployment, if it is open."""
        task = self._opening.pop(name, None)
        if task is not None:
            await (await task).close()

    async def close(self):
        """Closes all."""
        for name in list(self._opening):
            await self.forget(name)

    def loading(self):
        """The error of a request that comes while models are loading."""
        return ModelLoading("loading")

    async def _load(self, name, file):
        model = await asyncio.to_thread(self._open, name, file)
        deployment = self._deploy(model)
        await deployment.start()
        return deployment

    def _resolve(self, name):
        """Only a file below the folder, by a relative path that no link leads away from."""
        parts = name.split("/")
        if not name or "\0" in name or len(name) > 1024 or ".." in parts or name.startswith("/") or "://" in name:
            raise UnknownModel("No model of that name.")
        file = (self._root / name).resolve()
        if not file.is_relative_to(self._root) or not file.is_file():
            raise UnknownModel("No model of that name.")
        return file
