"""OpenVINO: a folder with `model.xml` and `model.bin`, made from the ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emotion_cnn.exporting import onnx
from emotion_cnn.files import write_text
from emotion_cnn.inference.backends.openvino import runtime
from emotion_cnn.models.exported import FILE_NAME

if TYPE_CHECKING:
    import keras

QUANTIZATIONS = onnx.QUANTIZATIONS
PACKAGES = (*onnx.PACKAGES, "openvino")
NAME = "model_openvino"


def write(
    model: "keras.Model",
    path: Path,
    *,
    quantize: str,
    text: str,
    images: np.ndarray | None,
) -> None:
    """Writes a network for OpenVINO.

    Args:
        model: As `exportable` returns it.
        path: Folder to create.
        quantize: One of `QUANTIZATIONS`.
        text: What the folder says of itself.
        images: uint8 (n, size, size, 1), to measure ranges on; only for `int8`.
    """
    openvino = runtime()
    path.mkdir()
    source = path / onnx.NAME
    onnx.write(model, source, quantize=quantize, text=text, images=images)
    converted = openvino.convert_model(source)
    openvino.save_model(
        converted, path / "model.xml", compress_to_fp16=quantize == "float16"
    )
    source.unlink()
    write_text(path / FILE_NAME, text)
