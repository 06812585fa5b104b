"""Exported networks: what all of their formats have in common.

The files may be a stranger's. They are read once, within bounds, and checked in two
steps before the runtime of this process has any of them: what a file is made of, by
the format's own module, which lets only operations through that networks for images are
made of; then whether its runtime survives it, by `trial`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, read_limited, shown
from emotion_cnn.inference.backends import trial
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.models.exported import (
    INPUT_NAME,
    OUTPUT_NAME,
    ExportedDescription,
    parse_exported,
)
from emotion_cnn.models.probabilities import check_probabilities

MEGABYTES = 500
"""The most that an exported network may take, all of its files together."""

_MOST_PIXELS = 64 * 48 * 48

Files = Mapping[str, bytes]
"""What was read of a network, by the name of the file in its folder."""


@dataclass(frozen=True)
class Tensor:
    """An input or output, as a runtime gives it.

    Attributes:
        name: Its name.
        dtype: Its type, as NumPy calls it.
        shape: None in it for any number.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Runner(Protocol):
    """A network in its runtime.

    Attributes:
        inputs: What goes in.
        outputs: What comes out.
    """

    @property
    def inputs(self) -> Sequence[Tensor]:  # noqa: D102
        ...

    @property
    def outputs(self) -> Sequence[Tensor]:  # noqa: D102
        ...

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the output for uint8 `(n, size, size, 1)`; raises almost anything."""


class Format(Protocol):
    """A module of this package that runs exported networks of one format."""

    @property
    def __name__(self) -> str:
        """The module's name."""

    @property
    def FORMAT(self) -> str:  # noqa: N802
        """The format's name, one of `models.export_formats.FORMATS`."""

    @property
    def PACKAGE(self) -> str:  # noqa: N802
        """The package of its runtime."""

    def names(self, path: Path) -> Sequence[str]:
        """Returns the names of the files, relative to the folder of the network."""

    def described(self, files: Files) -> str | bytes | None:
        """Returns what a network says of itself; None if it says nothing.

        Raises:
            ValueError: It is damaged, or made of other than is let through: says what
                it has.
        """

    def runtime(self) -> Any:
        """Imports the runtime, which then reports nothing.

        Raises:
            MissingPackageError: It is not installed.
        """

    def load(self, files: Files) -> Runner:
        """Returns the network in its runtime; raises almost anything."""


@dataclass(frozen=True, eq=False)
class ExportedNetwork:
    """A `Backend` of an exported network.

    Attributes:
        exported: What the network says of itself.
        weights_sha256: Of the file; of a folder, of the SHA-256 of its files.
        runner: What runs it.
    """

    exported: ExportedDescription
    weights_sha256: str
    runner: Runner
    is_described: bool = True

    @property
    def description(self) -> NetworkDescription:
        """What goes into the network and what its outputs mean."""
        return self.exported.network

    @property
    def batch_size(self) -> int:
        """The most images that are predicted at a time."""
        return batch_size(self.description)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Predicts images at once, as `Backend.predict`."""
        if images.dtype != np.uint8:
            images = np.rint(images).clip(0, 255).astype(np.uint8)
        return probabilities_of(self.runner, images, self.description)


def read(
    path: Path,
    module: Format,
    *,
    source_sha256: str | None = None,
    is_trusted: bool = False,
) -> ExportedNetwork:
    """Reads an exported network.

    Args:
        path: Its file or folder.
        module: The module of its format.
        source_sha256: Of the weights that it has to be made of; None for any.
        is_trusted: Whether the network is one of this tool's own, which needs no trial.

    Raises:
        ModelError: A file is missing or damaged, or the network is not of this kind, or
            made of other weights.
        MissingPackageError: The runtime is not installed; says how to install it.
    """
    files = _read_files(path, module)
    place = shown(str(path))
    try:
        text = module.described(files)
        if text is None:
            raise ModelError(
                "Expected a network that says what its classes and its images are, as "
                "`emotion-cnn export` writes them, found none of that."
            )
        exported = parse_exported(text)
    except ValueError as error:
        raise ModelError(
            f"Expected {place} to be a network of operations for images, found one "
            f"that has {shown(first_line(error))}. Export the network again."
        ) from error
    except ModelError as error:
        raise ModelError(f"{place} is no network that can be used. {error}") from error
    if exported.format != module.FORMAT:
        raise ModelError(
            f"Expected {place} to say that it is of the format {module.FORMAT}, found "
            f"{exported.format}. Export the network again."
        )
    if source_sha256 is not None and source_sha256 != exported.source_sha256:
        raise ModelError(
            f"Expected {place} to be made of the weights of SHA-256 "
            f"{source_sha256[:8]}..., found that it is of others, "
            f"{exported.source_sha256[:8]}.... Export the network again."
        )
    if not is_trusted:
        trial.pass_trial(place, module, files, exported.network)
    try:
        runner = module.load(files)
        check_tensors(runner, exported.network)
    except ModelError:
        raise
    # A runtime raises almost anything.
    except Exception as error:
        raise ModelError(
            f"{place} cannot be loaded: {shown(first_line(error))}. Export the network "
            "again, or choose another."
        ) from error
    return ExportedNetwork(exported, _digest(files), runner)


def batch_size(description: NetworkDescription) -> int:
    """Returns how many images of a network are predicted at a time, at most."""
    return max(1, _MOST_PIXELS // description.input_size**2)


def check_tensors(runner: Runner, description: NetworkDescription) -> None:
    """Checks what goes in and what comes out, as the runtime has it.

    Raises:
        ModelError: It is not what the description says.
    """
    size = description.input_size
    shape = (None, len(description.label_sets), len(description.classes))
    for found, expected in (
        (runner.inputs, Tensor(INPUT_NAME, "uint8", (None, size, size, 1))),
        (runner.outputs, Tensor(OUTPUT_NAME, "float32", shape)),
    ):
        if list(found) != [expected]:
            texts = [f"{e.name} of {e.dtype} {e.shape}" for e in (*found[:3], expected)]
            raise ModelError(
                f"Expected {texts[-1]} alone as what goes in or comes out, found "
                f"{shown(', '.join(texts[:-1]))[:300]}. Export the network again."
            )


def probabilities_of(
    runner: Runner, images: np.ndarray, description: NetworkDescription
) -> np.ndarray:
    """Returns what a network answers, checked.

    Args:
        runner: What runs it.
        images: uint8 `(n, size, size, 1)`.
        description: What the network is for.

    Returns:
        float32 `(n, label sets, classes)`.

    Raises:
        ModelError: The network fails, or answers with anything but probabilities.
    """
    try:
        outputs = np.asarray(runner.run(np.ascontiguousarray(images)))
    # A runtime raises almost anything.
    except Exception as error:
        raise ModelError(
            f"Expected a network that predicts {len(images)} images at a time, but it "
            f"fails ({shown(first_line(error))}). Choose another network."
        ) from error
    shape = len(images), len(description.label_sets), len(description.classes)
    # Probabilities of 8 bits are off by half a step each, and so is their sum.
    tolerance = 1e-3 + shape[-1] / 512
    probabilities = check_probabilities(outputs, shape, tolerance=tolerance)
    return probabilities / probabilities.sum(axis=-1, keepdims=True)


def _read_files(path: Path, module: Format) -> Files:
    """Returns the files of a network, each read once."""
    files: dict[str, bytes] = {}
    names = module.names(path)
    folder = path.parent if list(names) == [path.name] else path
    left = MEGABYTES
    for name in names:
        try:
            content = read_limited(folder / name, megabytes=left)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"Expected {shown(str(folder / name))} to be a file of an exported "
                f"network, but it cannot be read: {shown(first_line(error))}. Choose "
                "another network."
            ) from error
        left -= len(content) // 1_000_000
        files[name] = content
    return files


def _digest(files: Files) -> str:
    digests = [hashlib.sha256(content) for content in files.values()]
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(each.digest() for each in digests)).hexdigest()
