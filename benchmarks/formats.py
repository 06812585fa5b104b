"""The shipped network in every format and quantisation: size, agreement, speed.

Exports it as `--mode export` does, and prints what `parity.json` says as a table.
Without a data folder it does so on drawn faces, and leaves int8 out.
"""

from pathlib import Path
from typing import Any

import emotion_cnn
from benchmarks.images import DATA_HELP
from benchmarks.report import argument_parser, machine
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.errors import ModelError
from emotion_cnn.exporting.folder import read_known
from emotion_cnn.files import write_json
from emotion_cnn.models.export_formats import QUANTIZATIONS
from emotion_cnn.models.shipped import shipped_folder

_HEADER = (
    "file",
    "MB",
    "greatest difference",
    "equal decisions",
    "accuracy (paired difference, 95%)",
    "one image",
    "times Keras",
    "64 at a time",
    "times Keras",
)


def row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    """Returns the cells of a file, of its entry in `parity.json`."""
    speed, keras, difference = found["speed"], found["keras_speed"], found["difference"]
    mean, (low, high) = difference["mean"], difference["interval"]
    return (
        f"`{name}`",
        f"{found['bytes'] / 1e6:.1f}",
        f"{found['greatest_difference']:.1e}",
        f"{min(found['equal_decisions'].values()):.1%}",
        f"{found['accuracy']:.2%} ({100 * mean:+.2f}, {100 * low:+.2f} to "
        f"{100 * high:+.2f})",
        f"{speed['milliseconds']:.2f} ms",
        f"{keras['milliseconds'] / speed['milliseconds']:.1f}",
        f"{speed['images_per_second']:,.0f}/s",
        f"{speed['images_per_second'] / keras['images_per_second']:.1f}",
    )


def main() -> None:
    """Exports, and prints the table in Markdown."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", metavar="FOLDER", help=DATA_HELP)
    parser.add_argument(
        "--weights",
        default=shipped_folder(),
        metavar="FOLDER",
        help="the network (default: the shipped one)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for the files, which stay",
    )
    arguments = parser.parse_args()
    not_kept: dict[str, str] = {}
    for quantize in QUANTIZATIONS:
        # Ranges that are measured on drawn faces say nothing of photos.
        if quantize == "int8" and arguments.data is None:
            continue
        try:
            emotion_cnn.export(
                weights=arguments.weights,
                data=arguments.data or SAMPLE_DATA,
                format="all",
                quantize=quantize,
                output=arguments.output,
            )
        except ModelError as error:
            not_kept[quantize] = str(error)
    parity = read_known(arguments.output, ())
    print(f"| {' | '.join(_HEADER)} |\n|{len(_HEADER) * ' --- |'}")
    for name, found in sorted(parity.items()):
        print(f"| {' | '.join(row(name, found))} |")
    for quantize, reason in not_kept.items():
        print(f"| {quantize}: {reason} |{(len(_HEADER) - 1) * ' |'}")
    for first in [*parity.values()][:1]:
        print(f"\n{first['images']}; Keras: {first['keras_accuracy']:.2%}.")
    print(machine())
    if arguments.json:
        write_json(arguments.json, parity)


if __name__ == "__main__":
    main()
