"""LiteRT, formerly TensorFlow Lite: one `.tflite` file, for phones and small computers.

Made of LiteRT's own operations alone, so that every LiteRT runs it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emotion_cnn.models.exported import INPUT_NAME, KEY, OUTPUT_NAME
from emotion_cnn.quiet import quiet_conversion

if TYPE_CHECKING:
    import keras

QUANTIZATIONS = ("none", "float16", "int8-weights", "int8")
PACKAGES = ("tensorflow", "ai_edge_litert", "flatbuffers")
NAME = "model.tflite"


def write(
    model: "keras.Model",
    path: Path,
    *,
    quantize: str,
    text: str,
    images: np.ndarray | None,
) -> None:
    """Writes a network as LiteRT.

    Args:
        model: As `exportable` returns it.
        path: File to write.
        quantize: One of `QUANTIZATIONS`.
        text: What the file says of itself.
        images: uint8 (n, size, size, 1), to measure ranges on; only for `int8`.
    """
    import tensorflow as tf

    def one_by_one() -> Iterator[list[np.ndarray]]:
        for image in () if images is None else images:
            yield [image[np.newaxis]]

    target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    options: dict[str, object] = {"target_spec": target}
    if quantize != "none":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        target["supported_types"] = [tf.float16]
    elif quantize == "int8":
        options["representative_dataset"] = one_by_one
    with quiet_conversion():
        model.export(path, format="litert", verbose=False, **options)
    path.write_bytes(_described(path.read_bytes(), text))


def _described(content: bytes, text: str) -> bytes:
    """Returns a LiteRT file with names for input and output, and a text in it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    (signature,) = model.signatureDefs
    for ends, named, name in (
        (graph.inputs, signature.inputs, INPUT_NAME),
        (graph.outputs, signature.outputs, OUTPUT_NAME),
    ):
        graph.tensors[ends[0]].name = name
        named[0].name = name
    model.description = "emotion-cnn"
    model.buffers.append(schema.BufferT(data=np.frombuffer(text.encode(), np.uint8)))
    entry = schema.MetadataT(name=KEY, buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + len(text) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
