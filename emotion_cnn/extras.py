"""Optional packages, which the extras of `pip install "emotion-cnn[...]"` install."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from emotion_cnn.errors import MissingPackageError
from emotion_cnn.files import first_line

_INSTALLED_AS = {
    "cv2": "opencv-python-headless",
    "ai_edge_litert": "ai-edge-litert",
    "faiss": "faiss-cpu",
}
"""What to install for a package of another name."""


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
        reason = f"that it cannot be imported: {first_line(error)}"
        raise _missing(package, extra, reason) from error


def check_installed(package: str, *, extra: str) -> None:
    """Finds out, without importing it, whether an optional package is installed.

    Args:
        package: Its name, as in an import statement.
        extra: The extra of this project that installs it.

    Raises:
        MissingPackageError: It is not; says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise _missing(package, extra, "no such package")


@contextmanager
def hidden(packages: Sequence[str]) -> Iterator[None]:
    """Makes packages that are not imported yet seem not to be installed.

    Args:
        packages: Their names, as in import statements.
    """
    names = [name for name in packages if name not in sys.modules]
    # An import of what is None there fails as if nothing were found.
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _missing(package: str, extra: str, reason: str) -> MissingPackageError:
    name = _INSTALLED_AS.get(package, package)
    return MissingPackageError(
        f"Expected the package {package} to be installed, found {reason}. Install it: "
        f"pip install {name} (emotion-cnn's extra `[{extra}]`)."
    )
