"""A network in, files in other formats out, each compared with it before it is kept."""

import hashlib
import importlib
import importlib.util
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emotion_cnn import __version__
from emotion_cnn.data.splits import Split
from emotion_cnn.errors import ConfigError, ModelError
from emotion_cnn.exporting.calibration import choose
from emotion_cnn.exporting.folder import (
    PARITY_NAME,
    at_work_in,
    files_in,
    put,
    read_known,
)
from emotion_cnn.exporting.parity import Parity, Reference, compare
from emotion_cnn.extras import check_installed
from emotion_cnn.files import first_line, shown, write_json
from emotion_cnn.inference.backends import Backend, read_network
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.models.description import Network
from emotion_cnn.models.export_formats import FORMATS
from emotion_cnn.models.exported import ExportedDescription
from emotion_cnn.models.input_range import GRAY_LEVELS

HEADER = "  MB differ  equal   right     ms times  img/s times"
"""What stands above the lines of files: size, greatest difference of a probability,
share of equal decisions, accuracy, milliseconds a single image and images/s in batches
of 64, each with how many times as fast as Keras that is."""

_TORCH = "torch"
"""The format, and the package that it needs: large, and for nothing else."""

_log = logging.getLogger(__name__)


class _Format(Protocol):
    QUANTIZATIONS: tuple[str, ...]
    PACKAGES: tuple[str, ...]
    NAME: str

    def write(
        self, model: Any, path: Path, *, quantize: str, text: str, images: Any
    ) -> None: ...


@dataclass(frozen=True)
class Exported:
    """A file, or folder, that was exported.

    Attributes:
        path: Where it is.
        description: What it says of itself.
        bytes: Its size.
        sha256: Of the file; of a folder, over its files in the order of their names.
        parity: How it compares with the network.
    """

    path: Path
    description: ExportedDescription
    bytes: int
    sha256: str
    parity: Parity

    @property
    def line(self) -> str:
        """The figures on one line of 80 columns, below `HEADER`."""
        parity, speed, keras = self.parity, self.parity.speed, self.parity.keras_speed
        single = keras.milliseconds / speed.milliseconds
        batches = speed.images_per_second / keras.images_per_second
        return (
            f"{self.bytes / 1e6:>4.1f} {parity.greatest_difference:>6.0e} "
            f"{min(parity.equal_decisions.values()):>6.1%} {parity.accuracy:>7.2%} "
            f"{speed.milliseconds:>6.2f} {single:>5.1f} "
            f"{speed.images_per_second:>6,.0f} {batches:>5.1f} {self.path.name}"
        )

    def record(self) -> dict[str, Any]:
        """Returns what `parity.json` says of the file, as JSON takes it."""
        parity = asdict(self.parity)
        difference = self.parity.difference
        parity["difference"] |= {
            "mean": difference.mean,
            "interval": difference.interval,
            "p_value": difference.p_value,
        }
        described = asdict(self.description)
        return {"bytes": self.bytes, "sha256": self.sha256, **described, **parity}


def formats_of(names: Sequence[str], quantize: str) -> tuple[str, ...]:
    """Returns the formats to export to.

    Args:
        names: Some of `FORMATS`, or `all`: those that have the quantisation, without
            Torch's where that is not installed.
        quantize: One of `QUANTIZATIONS`.

    Raises:
        ConfigError: A format does not have the quantisation.
        MissingPackageError: A package is missing; says how to install it.
    """
    able = [name for name in FORMATS if quantize in _module(name).QUANTIZATIONS]
    formats = tuple(dict.fromkeys(names))
    if "all" in formats:
        formats = tuple(each for each in able if each != _TORCH or _has_torch())
    for name in formats:
        module = _module(name)
        if name not in able:
            raise ConfigError(
                f"`quantize` of the format {name} is one of "
                f"{', '.join(module.QUANTIZATIONS)}; found {quantize!r}. It can be had "
                f"in {', '.join(able)}."
            )
        for package in module.PACKAGES:
            extra = _TORCH if package == _TORCH else "export"
            check_installed(package, extra=extra)
    return formats


def _has_torch() -> bool:
    return importlib.util.find_spec(_TORCH) is not None


def _module(name: str) -> _Format:
    module: Any = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    return module


def export_network(
    network: Network,
    *,
    formats: Sequence[str],
    quantize: str,
    license: str,
    train: Split,
    images: Split,
    images_name: str,
    output: Path,
) -> list[Exported]:
    """Exports a network, and keeps the files that say what it says.

    A file is written and compared in a hidden folder, and takes its place when that
    went well: what was there before is replaced by a good file or not at all.

    Args:
        network: The network, of the classes and the size of the images.
        formats: As `formats_of` returns them.
        quantize: One of `QUANTIZATIONS`.
        license: Licence of the weights, which the files say.
        train: The images that it was trained on, to measure ranges for `int8` on.
        images: Other images, to compare on.
        images_name: What these are, in words.
        output: Folder for the files, created if need be. What it holds is replaced only
            if its `parity.json` says that it was exported.

    Returns:
        What was exported.

    Raises:
        ModelError: The network cannot be exported at all, or to a format, or a file is
            out of its bounds; the others have been kept.
        FolderError: The folder cannot be used, or something else is in the way.
    """
    # Here, as settings are checked without Keras.
    from emotion_cnn.exporting.network import exportable

    names = {format: _file_name(format, quantize) for format in formats}
    with at_work_in(output) as work:
        known = read_known(output, names.values())
        try:
            model = exportable(network)
        # Keras raises almost anything at layers that it cannot put together anew.
        except Exception as error:
            raise ModelError(
                "Expected a network that can be exported, found one that cannot: "
                f"{shown(first_line(error))}. Choose another with `weights`."
            ) from error
        reference = Reference.of(KerasNetwork(network), images)
        calibration, facts = choose(train) if quantize == "int8" else (None, None)
        done, failures = [], []
        _log.info("%s", HEADER)
        for format, name in names.items():
            description = ExportedDescription(
                # The file scales gray levels itself.
                replace(network.description, input_range=GRAY_LEVELS),
                format=format,
                quantize=quantize,
                source_sha256=network.weights_sha256,
                version=__version__,
                license=license,
                calibration=facts,
            )
            try:
                exported = _write(
                    model, work / name, description, reference, calibration
                )
            except ModelError as error:
                failures.append(f"{name}: {error}")
                continue
            _log.info("%s", exported.line)
            if shortfalls := exported.parity.shortfalls(quantize):
                failures.append(f"{name}: {', '.join(shortfalls)}.")
                continue
            # First: a file that it does not name would be in the next export's way.
            known[name] = {"images": images_name, **exported.record()}
            write_json(output / PARITY_NAME, known)
            put(exported.path, output / name)
            done.append(replace(exported, path=output / name))
    if failures:
        raise ModelError(
            "Expected files that answer as the network does; not kept: "
            f"{' '.join(failures)} Choose another `format` or `quantize`."
        )
    return done


def _file_name(format: str, quantize: str) -> str:
    path = Path(_module(format).NAME)
    return path.name if quantize == "none" else f"{path.stem}-{quantize}{path.suffix}"


def _write(
    model: Any,
    path: Path,
    description: ExportedDescription,
    reference: Reference,
    calibration: np.ndarray | None,
) -> Exported:
    """Writes one file and compares it.

    Raises:
        ModelError: It cannot be written, or cannot be read again.
    """
    try:
        _module(description.format).write(
            model,
            path,
            quantize=description.quantize,
            text=description.to_json(),
            images=calibration,
        )
    except OSError:
        raise
    # The formats' own tools raise almost anything at what they cannot convert.
    except Exception as error:
        raise ModelError(
            f"it cannot be converted: {shown(first_line(error))}."
        ) from error
    with _opened(path, description) as network:
        parity = compare(network, reference)
    size, digest = 0, hashlib.sha256()
    for file in files_in(path):
        content = file.read_bytes()
        size += len(content)
        digest.update(content)
    return Exported(path, description, size, digest.hexdigest(), parity)


def _opened(
    path: Path, description: ExportedDescription
) -> AbstractContextManager[Backend]:
    if description.format != _TORCH:
        return nullcontext(read_network(path, is_trusted=True))
    # A file of pickles, which `read_network` therefore does not know.
    from emotion_cnn.exporting.torch import running

    return running(path, description.network)
