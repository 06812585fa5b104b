"""Video from file to faces: rate at 640x480 with one face, and peak memory.

The video is made here, of a built-in drawn face that moves over a textured background.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.drawn_faces import draw_faces

HEIGHT, WIDTH, RATE = 480, 640, 25
FACE = 160
FRAMES = 500
REAL_TIME = 25


def scenes(count: int) -> Iterator[np.ndarray]:
    """Yields frames, uint8 RGB, in which a face goes to and fro."""
    rng = np.random.default_rng(0)
    background = draw_background(rng)
    drawn, _ = draw_faces(1, 0)
    faces = [enlarged(face, FACE) for face in drawn]
    top, room = (HEIGHT - FACE) // 2, WIDTH - FACE
    for number in range(count):
        left = abs((3 * number) % (2 * room) - room)
        scene = background.copy()
        scene[top : top + FACE, left : left + FACE] = faces[number // 50 % len(faces)]
        yield scene


def draw_background(rng: np.random.Generator) -> np.ndarray:
    """Returns a photo of soft colours, uint8 RGB `(480, 640, 3)`."""
    coarse = rng.integers(60, 200, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
    return np.array(
        Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    )


def enlarged(face: np.ndarray, side: int) -> np.ndarray:
    """Returns a drawn face, uint8 `(side, side, 1)`, of one of 48 pixels a side."""
    image = Image.fromarray(face[..., 0])
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))[
        ..., np.newaxis
    ]


def make_video(path: Path, count: int) -> None:
    """Writes a video of so many frames."""
    from emotion_cnn.inference.video_writing import write_video

    with write_video(path, height=HEIGHT, width=WIDTH) as writer:
        for number, scene in enumerate(scenes(count)):
            writer.write(number / RATE, scene)


def main() -> None:
    """Measures, and prints the table; or analyses one video for its own measurement."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--frames",
        type=int,
        default=10_000,
        help="frames of the longer video of the two whose peak memory is compared",
    )
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(peak_of_analysis(arguments.memory_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows, notes = rates(Path(folder))
        rows.append(memory(Path(folder), arguments.frames))
    show(
        f"Video, H.264, {WIDTH}x{HEIGHT}, one face, stride 1",
        rows,
        notes=notes,
        json=arguments.json,
    )


def rates(folder: Path) -> tuple[list[Row], list[str]]:
    """Measures whole and parts, in one process."""
    import emotion_cnn
    from emotion_cnn.inference.cropping import crop_face
    from emotion_cnn.inference.detection import YuNet
    from emotion_cnn.inference.video import open_video

    path = folder / "rate.mp4"
    make_video(path, FRAMES)
    classifier = emotion_cnn.load()
    detector = YuNet()
    found = sum(len(frame.faces) for frame in classifier.analyze_video(path, end=2))

    def whole() -> int:
        return sum(1 for _ in classifier.analyze_video(path))

    def decoded() -> int:
        with open_video(path) as video:
            return sum(1 for _ in video.frames())

    images = [frame for _, frame in zip(range(100), scenes(100), strict=True)]

    def detected() -> int:
        for image in images:
            detector.detect(image)
        return len(images)

    box = detector.detect(images[0])[0].box
    crop = crop_face(images[0], box, classifier.input_size)

    def classified() -> int:
        for _ in images:
            classifier.predict(crop)
        return len(images)

    whole_rate = frames_per_second(whole)
    rows = [
        Row(
            "from file to followed faces",
            "frames/s",
            whole_rate,
            at_least=REAL_TIME,
        ),
        Row("decoding alone", "frames/s", frames_per_second(decoded)),
        Row("detector alone, one thread", "frames/s", frames_per_second(detected)),
        Row(
            "network alone, a face at a time", "frames/s", frames_per_second(classified)
        ),
    ]
    return rows, [f"The face was found in {found} of the first {2 * RATE} frames."]


def frames_per_second(work: Callable[[], int]) -> float:
    """Returns the rate of what returns how many frames it worked on."""
    start = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - start)


def memory(folder: Path, frames: int) -> Row:
    """Compares the peak memory over so many frames with that over a tenth of them."""
    peaks = []
    for count in (frames, frames // 10):
        path = folder / f"{count}.mp4"
        make_video(path, count)
        command = [sys.executable, "-m", "benchmarks.video", "--memory-of", str(path)]
        output = subprocess.run(  # noqa: S603 - Its own file.
            command, check=True, capture_output=True, text=True
        ).stdout
        peaks.append(float(output.splitlines()[-1]))
    what = f"peak memory over {frames:,} frames, against {frames // 10:,}"
    return Row(what, "MB", peaks[0], peaks[1], at_most=1.1)


def peak_of_analysis(path: Path) -> float:
    """Returns the peak memory, in MB, of this process after it analysed a video."""
    import resource

    import emotion_cnn
    from emotion_cnn.inference.timeline import Timeline

    classifier = emotion_cnn.load()
    timeline = Timeline(classifier.classes)
    for frame in classifier.analyze_video(path):
        timeline.add(frame.seconds, frame.faces)
    timeline.figure("video")
    # macOS counts bytes, Linux kilobytes.
    unit = 1_000_000 if sys.platform == "darwin" else 1_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
