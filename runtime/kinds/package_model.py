"""Files of torch.package: programs in Python, which run in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from models.bundles.settings import Resolver, as_it_is
from models.bundles.spec import PreprocessSpec
from models.engines.base import EngineOptions
from models.errors import EngineError
from models.images.preprocess import Preprocessor
from models.networks.programs import PACKAGE, check_parts, is_package
from runtime.kinds import package_engine
from runtime.kinds.tensor_model import TensorModel
from runtime.kinds.tensor_settings import PackageSettings, tensor_settings_of
from runtime.processes.recipe import Recipe


class PackageModel(TensorModel):
    """An object in a package as a model.

    Attributes:
        facts: known before it is loaded.
        file: of the package.
        settings: how it is run.
    """

    settings: PackageSettings

    def __init__(self, name: str, file: Path, settings: PackageSettings, preprocessor: Preprocessor) -> None:
        """Creates it; nothing of the package is read.

        Args:
            name: under which it is served.
            file: of the package.
            settings: how it is run.
            preprocessor: for images among the arguments.
        """
        super().__init__(name, file, PACKAGE, settings, preprocessor)

    def load(self, options: EngineOptions) -> NoReturn:
        """Raises EngineError: its code does not run in this process."""
        raise EngineError(f"{self.file}: a package runs in a process of its own only")

    def recipe(self, options: EngineOptions) -> Recipe:
        """How another process loads the engine."""
        return self.recipe_for(package_engine.load_in_child, options, pickle=list(self.settings.pickle))


def open_package_model(
    name: str,
    file: Path,
    preprocessor_of: Callable[[PreprocessSpec], Preprocessor],
    resolve: Resolver = as_it_is,
) -> PackageModel:
    """Looks at a package and at the settings beside it; nothing of it is unpickled or imported.

    Args:
        name: under which it is served.
        file: of the package.
        preprocessor_of: makes what decodes images.
        resolve: gets the path of the settings before they are opened.

    Raises:
        BundleError: its settings are wrong.
        EngineError: it is damaged, or no package.
    """
    if not is_package(file):
        raise EngineError(f"{file}: not a torch.package, or damaged")
    check_parts(file)
    settings = tensor_settings_of(file, PackageSettings, resolve)
    return PackageModel(name, file, settings, preprocessor_of(settings.preprocess))
