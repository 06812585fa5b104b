"""Tries an exported network in a process of its own, which it may bring down.

A runtime is native code: a damaged or malicious file can end its process, fill the
memory or never answer, whatever was checked before. In the trial that happens to a
child, with bounds of memory and time.
"""

import contextlib
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from emotion_cnn.errors import MissingPackageError, ModelError
from emotion_cnn.files import first_line, shown
from emotion_cnn.models.description import NetworkDescription

if TYPE_CHECKING:
    from emotion_cnn.inference.backends.exported import Files, Format

SECONDS = 300
"""The longest trial; importing TensorFlow can take a minute on a busy machine."""
_MEMORY = 4 << 30
"""The most memory, in bytes, on top of what the runtime takes by itself."""

_PASSED, _REFUSED = 0, 3
_ADVICE = "Export the network again, or choose another."


def pass_trial(
    place: str, module: "Format", files: "Files", description: NetworkDescription
) -> None:
    """Has a child load the network and predict.

    The runtime is imported meanwhile, so that the trial costs little time where there
    are two cores.

    Args:
        place: Where the network is, for messages.
        module: The module of its format.
        files: Its files, already checked by that module.
        description: What it is for.

    Raises:
        ModelError: The child does not survive, takes too long, or finds that the
            network is not of this kind.
        MissingPackageError: The runtime is not installed.
    """
    # Not by -m: where the package is not installed, only this process knows where it
    # is. As little as possible is imported from there.
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from emotion_cnn.inference.backends.trial import undergo\n"
        f"sys.exit(undergo({module.__name__.rpartition('.')[2]!r}))"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as child:
        header = {
            "sizes": {name: len(content) for name, content in files.items()},
            "size": description.input_size,
            "classes": description.classes,
            "label_sets": description.label_sets,
        }
        # While the child does so.
        try:
            module.runtime()
        except MissingPackageError:
            child.kill()
            raise
        sent = json.dumps(header).encode() + b"\n" + b"".join(files.values())
        try:
            _, errors = child.communicate(sent, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            raise ModelError(
                f"{place} fails in a trial: it was not ready after {SECONDS} seconds. "
                "Choose another network."
            ) from None
    if child.returncode == _PASSED:
        return
    reason = f"it ends its process with exit code {child.returncode}. {_ADVICE}"
    if child.returncode == _REFUSED:
        # The last line: a runtime may say something, too.
        lines = errors[-5_000:].decode(errors="replace").strip().splitlines()
        reason = shown(lines[-1]) if lines else _ADVICE
    raise ModelError(f"{place} fails in a trial: {reason}")


def undergo(name: str) -> int:
    """Loads and runs the network on standard input, in the child.

    Args:
        name: The module of its format.

    Returns:
        The exit code.
    """
    from emotion_cnn.inference.backends import exported

    module = importlib.import_module(f"emotion_cnn.inference.backends.{name}")
    module.runtime()
    stream: IO[bytes] = sys.stdin.buffer
    header = json.loads(stream.readline())
    files = {name: stream.read(size) for name, size in header["sizes"].items()}
    description = NetworkDescription(
        classes=tuple(header["classes"]),
        label_sets=tuple(header["label_sets"]),
        input_size=header["size"],
    )
    _limit_memory()
    try:
        runner = module.load(files)
        exported.check_tensors(runner, description)
        generator = np.random.default_rng(0)
        # The least that are several, and the most: a runtime may prepare for each anew.
        for count in (2, exported.batch_size(description)):
            # Black, white and noise.
            shape = (count, *runner.inputs[0].shape[1:])
            images = generator.integers(0, 256, shape).astype(np.uint8)
            images[0], images[1] = 0, 255
            exported.probabilities_of(runner, images, description)
    except ModelError as error:
        sys.stderr.write(f"\n{error}")  # One line, which says what to do.
        return _REFUSED
    # A runtime raises almost anything.
    except Exception as error:
        sys.stderr.write(f"\n{first_line(error)}. {_ADVICE}")
        return _REFUSED
    return _PASSED


def _limit_memory() -> None:
    """Bounds the memory of this process, as far as the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
