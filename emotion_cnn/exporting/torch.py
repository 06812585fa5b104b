"""Torch: one `.pt2` file of `torch.export`, which `torch.export.load` reads.

Keras writes it only where it runs on Torch, so a process of its own does. Another one,
without Keras, finds out what the file answers.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from emotion_cnn.errors import ModelError
from emotion_cnn.files import shown
from emotion_cnn.inference.backends.exported import batch_size
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.models.exported import FILE_NAME, OUTPUT_NAME
from emotion_cnn.models.probabilities import check_probabilities

if TYPE_CHECKING:
    import keras

QUANTIZATIONS = ("none",)
PACKAGES = ("torch",)
NAME = "model.pt2"


def write(
    model: "keras.Model",
    path: Path,
    *,
    quantize: str,
    text: str,
    images: np.ndarray | None,
) -> None:
    """Writes a network for Torch.

    Args:
        model: As `exportable` returns it.
        path: File to write; others beside it, named like it, are temporary.
        quantize: One of `QUANTIZATIONS`.
        text: What the file says of itself: its extra file `FILE_NAME`.
        images: Not used.
    """
    saved = path.with_suffix(".keras")
    model.save(saved)
    with _python(f"export({str(saved)!r}, {str(path)!r})") as (child, errors):
        child.communicate(text.encode())
        if child.returncode:
            raise RuntimeError(_last_line(errors))
    saved.unlink()


def export(saved: str, path: str) -> None:
    """Writes a saved network for Torch, in a process of its own.

    Args:
        saved: File of `keras.Model.save`.
        path: File to write. The standard input is what it says of itself.
    """
    from emotion_cnn.backend import use_backend

    use_backend("torch")
    import keras
    import torch

    model = keras.saving.load_model(saved, compile=False)
    batch = {0: torch.export.Dim("batch")}
    model.export(path, format="torch", verbose=False, dynamic_shapes=batch)
    # Keras' file has no room for a text.
    program = torch.export.load(path)
    text = sys.stdin.buffer.read().decode()
    torch.export.save(program, path, extra_files={FILE_NAME: text})


@contextmanager
def running(path: Path, description: NetworkDescription) -> Iterator["TorchNetwork"]:
    """Yields a network that another process runs.

    Args:
        path: A file that `write` has just written, as Torch unpickles what it reads.
        description: What the network is for.
    """
    with _python(f"answer({str(path)!r})") as (child, errors):
        yield TorchNetwork(description, child, errors)


@dataclass(frozen=True, eq=False)
class TorchNetwork:
    """A `Backend` of a network in another process.

    Attributes:
        description: What goes into the network and what its outputs mean.
        child: The process, in which `answer` runs.
        errors: What it prints.
    """

    description: NetworkDescription
    child: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    weights_sha256: str = ""
    is_described: bool = True

    @property
    def batch_size(self) -> int:
        """The most images that are predicted at a time."""
        return batch_size(self.description)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Predicts images at once, as `Backend.predict`."""
        try:
            _send(self.child.stdin, images.astype(np.uint8))
            found = _receive(self.child.stdout, np.dtype(np.float32))
        # A process that has ended neither reads nor writes.
        except (OSError, ValueError) as error:
            self.child.kill()
            raise ModelError(f"it fails in Torch: {_last_line(self.errors)}") from error
        description = self.description
        sets, classes = len(description.label_sets), len(description.classes)
        return check_probabilities(found, (len(images), sets, classes))


def answer(path: str) -> None:
    """Predicts the arrays on the standard input, to the standard output.

    Args:
        path: A file that `write` has written.
    """
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import torch

    network = torch.export.load(path).module()
    with torch.inference_mode():
        while True:
            images = _receive(sys.stdin.buffer, np.dtype(np.uint8))
            _send(answers, network(torch.from_numpy(images))[OUTPUT_NAME].numpy())


def _send(stream: Any, array: np.ndarray) -> None:
    """Writes an array to a pipe: its shape on a line, and its values."""
    stream.write(json.dumps(array.shape).encode() + b"\n" + array.tobytes())
    stream.flush()


def _receive(stream: Any, dtype: np.dtype) -> np.ndarray:
    """Reads what `_send` has written; raises `ValueError` if there is none."""
    shape = json.loads(stream.readline())
    content = bytearray(stream.read(math.prod(shape) * dtype.itemsize))
    return np.frombuffer(content, dtype).reshape(shape)


@contextmanager
def _python(
    call: str,
) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """Yields a process that calls a function of this module, and what it prints."""
    # Not by -m: where the package is not installed, only this process knows where it
    # is.
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"from {__name__} import {call.partition('(')[0]}\n{call}"
    )
    # Not on a graphics card: only where there is one could the file be read.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "KERAS_TORCH_DEVICE": "cpu"},
        ) as child,
    ):
        try:
            yield child, errors
        finally:
            # It has ended, or is not to go on: after Ctrl-C nobody waits for it.
            child.kill()


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return shown(lines[-1])[:300] if lines else "its process ends."
