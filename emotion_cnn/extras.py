"""Optional packages, which the extras of `pip install "emotion-cnn[...]"` install."""

import importlib
from types import ModuleType

from emotion_cnn.errors import MissingPackageError
from emotion_cnn.files import first_line


def require(package: str, *, extra: str) -> ModuleType:
    """Imports an optional package.

    Args:
        package: Its name, as in an import statement.
        extra: The extra of this project that installs it.

    Raises:
        MissingPackageError: It cannot be imported; says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"Expected the package {package} to be installed, found that it cannot be "
            f"imported: {first_line(error)}. Install it with: "
            f'pip install "emotion-cnn[{extra}]"'
        ) from error
