"""The documents: every command and every block of Python works, every link leads on.

Commands run in a folder with a few drawn faces under the names that the documents use.
`TAKES_LONG` and `NOT_OF_THE_TOOL` list what does not run here, and why.
"""

import ast
import csv
import io
import json
import re
import shlex
import shutil
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest
import videos
from conftest import write_network
from PIL import Image

import emotion_cnn
from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.data.groups import find_groups
from emotion_cnn.data.votes import VOTE_COLUMNS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "train", "test")),
)

TAKES_LONG = {
    "train": "minutes to hours; it stops here once its settings are checked, and "
    "tests/test_end_to_end.py trains",
    "serve": "until Ctrl-C; tests/test_serve.py serves",
}
NOT_OF_THE_TOOL = {
    "python -m pip install": "installs packages; .ci/run does",
    "pip install": "installs packages; .ci/check_wheel does",
    "python -m pytest": "runs these tests; .ci/run does",
    "python -m benchmarks.faults": "takes minutes; .ci/run runs a short campaign",
    "cp -r": "copies what only the repository has",
    "sbatch": "is SLURM's",
    "export": "is the shell's",
    "parallel": "is GNU parallel's",
    "srun": "is SLURM's; tests/test_shards.py runs what it starts",
    "mpirun": "is Open MPI's; tests/test_shards.py runs what it starts",
}
FIRST_STEPS = {
    "train": (
        "emotion_cnn.commands.train.find_source",
        "emotion_cnn.training.run_folder.find_run",
    ),
    "evaluate": ("emotion_cnn.commands.evaluate.find_source",),
    "predict": ("emotion_cnn.inference.sources.find_sources",),
    "serve": ("emotion_cnn.serving.server.listen",),
    "export": ("emotion_cnn.commands.export.find_source",),
    "prepare": ("emotion_cnn.importing.containers.open_container",),
    "audit": ("emotion_cnn.commands.audit.find_source",),
}
"""What each mode calls first once its settings are checked."""

NOT_OUR_WORDS = (
    r"pictures?|twins?|judg(e[sd]?|ing)|mirror(s|ed|ing)?|one[-\s]view|by\sheart|"
    r"mend(s|ed|ing)?|torn|taken\sanew|half\sas\s(fast|much)\sagain|let\sexpect|"
    r"one-cycle|asks?\sfor\snothing|grey|gr[ae]y[-\s]scale"
)
ALLOWED_WORDS = {
    ("docs/experiments.md", "one-cycle"): "in commands of commits that called it so",
    ("docs/evaluation.md", "twin"): "what files of former runs call a near-duplicate",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def all_blocks() -> list[Block]:
    blocks = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for fence in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            line = text.count("\n", 0, fence.start()) + 1
            blocks.append(Block(document, line, fence[1], fence[2]))
    return blocks


def blocks_of(language: str, containing: str = "") -> list[Block]:
    return [b for b in all_blocks() if b.language == language and containing in b.text]


def shell_commands(block: Block) -> list[list[str]]:
    """Returns the commands of a block, each as its words."""
    commands = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for is_joint, command in groupby(words, lambda word: word == "&&"):
            if not is_joint:
                commands.append(list(command))
    return commands


def inline_commands(start: str) -> list[str]:
    """Returns the commands in running text and tables that begin so, each once."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        prose = re.sub(r"^```(?:.*\n)*?```$", "", document.read_text(), flags=re.M)
        for code in re.findall(r"`([^`]+)`", prose):
            if re.match(rf"{start}\b", code):
                found[" ".join(code.split())] = None
    return list(found)


def arguments(words: list[str]) -> list[str] | None:
    """Returns the arguments of the tool in a command; None for another program."""
    for program in ("python main.py", "python -m emotion_cnn", "emotion-cnn"):
        start = program.split()
        if words[: len(start)] == start:
            return words[len(start) :]
    return None


def mode_of(argv: list[str]) -> str | None:
    return next((word for word in argv if word in FIRST_STEPS), None)


class ArgumentsAreFine(Exception):  # noqa: N818
    """Ends a command once its settings are checked."""


@contextmanager
def ends_once_settings_are_checked(*modes: str) -> Iterator[None]:
    """Expects that a mode is called, and ends it before it does anything."""

    def end(*_: object, **__: object) -> None:
        raise ArgumentsAreFine

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ArgumentsAreFine):
        for mode in modes:
            for step in FIRST_STEPS[mode]:
                patch.setattr(step, end)
        yield


# --- What commands find ---


def write_rows(path: Path, *rows: tuple[object, ...]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def small_data(tmp_path_factory, shared_networks):
    """A folder with all that the documents' commands read."""
    folder = tmp_path_factory.mktemp("small_data")
    order = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    of_votes = dict(zip(order, (4, 5, 6, 1, 3, 2, 0), strict=True))
    table: list[tuple[object, ...]] = [("emotion", "pixels", "Usage")]
    votes: list[tuple[object, ...]] = [("Usage", "Image name", *VOTE_COLUMNS)]
    usages = 2 * ("Training",) + ("PublicTest", "PrivateTest")
    images, labels = draw_faces(len(usages), seed=0)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        usage = usages[row % len(usages)]
        emotion = EMOTIONS[label]
        pixels = " ".join(map(str, image.ravel().tolist()))
        table.append((order.index(emotion), pixels, usage))
        ten = [10 * (of_votes[emotion] == i) for i in range(len(VOTE_COLUMNS))]
        votes.append((usage, f"fer{row:07}.png", *ten))
    write_rows(folder / "fer2013.csv", *table)
    write_rows(folder / "fer2013new.csv", *votes)

    faces, audit = folder / "faces", folder / "made"
    tables = ("--source", folder / "fer2013.csv")
    votes_on_them = ("--ferplus", folder / "fer2013new.csv")
    run("prepare", *tables, *votes_on_them, "--data", faces)
    run("audit", "--data", faces, "--output", audit)
    (audit / "audit.json").rename(folder / "audit.json")
    shutil.rmtree(audit)

    paths = sorted(faces.glob("t*/*/*.png"))
    (folder / "photos").mkdir()
    for name in ("face.png", "photo.jpg", "photos/1.png"):
        shutil.copy(paths[0], folder / name)
    (folder / "names.txt").write_text("face.png\n")
    videos.write(folder / "talk.mp4", videos.varying_times(10))
    rows: list[tuple[object, ...]] = [("image", "row")]
    (folder / "tars").mkdir()
    with (
        zipfile.ZipFile(folder / "archive.zip", "w") as archive,
        tarfile.open(folder / "tars/000.tar", "w") as tar,
    ):
        for row, path in enumerate(paths):
            tar.add(path, f"{row}.png")
            label = str(EMOTIONS.index(path.parent.name)).encode()
            entry = tarfile.TarInfo(f"{row}.cls")
            entry.size = len(label)
            tar.addfile(entry, io.BytesIO(label))
            place = path.relative_to(faces)
            part, emotion, name = place.parts
            archive.write(path, place)
            rows.append((place, int(re.sub(r"\D", "", name))))
            # RAF-DB numbers its classes from 1; which number is which does not matter.
            number = folder / "DATASET" / part / str(1 + EMOTIONS.index(emotion))
            for copy in (folder / "fer2013" / place, number / name):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    write_rows(folder / "ferplus_rows.csv", *rows)

    write_rows(folder / "icml_face_data.csv", *((a, c, b) for a, b, c in table))
    finished = folder / "runs" / "RUN"
    finished.mkdir(parents=True)
    (finished / "config.json").write_text('{"data": "faces"}')
    other = folder / "other"
    other.mkdir()
    branches = [folder / "branches" / name for name in ("51", "52")]
    for branch in branches:
        branch.mkdir(parents=True)
        (branch / "config.json").write_text("{}")
        (branch / "metrics.json").write_text("{}")
        (branch / "environment.json").write_text('{"initial_weights_sha256": "a"}')
    for place in (folder, finished, other, branches[0]):
        for name in ("model.json", "model_weights.h5"):
            shutil.copy(shared_networks[0] / name, place)
    write_network(branches[1], seed=3, dense=(4, 4))
    # As another tool writes it.
    architecture = json.loads((other / "model.json").read_text())
    del architecture["emotion_cnn"]
    (other / "model.json").write_text(json.dumps(architecture))
    return folder


PEOPLE = 10


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory):
    """A folder with drawn faces in the layouts of docs/datasets.md."""
    folder = tmp_path_factory.mktemp("data_sets")
    images, labels = draw_faces(PEOPLE, seed=1)
    lists: dict[str, list[str]] = defaultdict(list)
    for n, (image, label) in enumerate(zip(images[..., 0], labels, strict=True)):
        emotion, person = EMOTIONS[label], n % PEOPLE
        letters = ("AN", "DI", "FE", "HA", "NE", "SA", "SU")[label]
        part = "train" if person else "test"
        sequence = f"S{person:03}/{label:03}/S{person:03}_{label:03}_00000009"
        ck48, number = emotion.replace("neutral", "contempt"), (label + 1) % 8
        names = [
            f"FERPlus/{emotion}/fer{n:07}.png",
            f"CK+/cohn-kanade-images/{sequence}.png",
            f"CK+/cohn-kanade-images/{sequence[:-1]}8.png",
            f"CK+48/{ck48}/S{person:03}_{label:03}_00000009.png",
            f"RAF-DB/Image/aligned/{part}_{n:05}_aligned.jpg",
            f"AffectNet/Manually_Annotated_Images/{person}/{n}.jpg",
            f"AffectNet8/{'train' if person else 'val'}/{number}/{n}.jpg",
            f"jaffe/{'KLMNPRTUYZ'[person]}A.{letters}1.{n}.tiff",
            f"KDEF/AF{person:02}/AF{person:02}{letters.replace('FE', 'AF')}S.JPG",
            f"ExpW/image/{emotion}_{n}.jpg",
            f"photos/{('cat', 'dog', 'bird')[n % 3]}/{n}.webp",
            f"people/P{person:03}/{emotion}/0.jpg",
        ]
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)
        lists[f"CK+/Emotion/{sequence}_emotion.txt"] = [f"   {number}.0000000e+00"]
        lists["RAF-DB/EmoLabel/list_patition_label.txt"].append(
            f"{part}_{n:05}.jpg {label + 1}"
        )
        table = lists[f"AffectNet/{'training' if person else 'validation'}.csv"]
        table[:0] = (
            []
            if table
            else [
                "subDirectory_filePath,face_x,face_y,face_width,"
                "face_height,facial_landmarks,expression,valence,arousal"
            ]
        )
        table.append(f"{person}/{n}.jpg,0,0,48,48,1.5;2.5,{number},0.1,0.2")
        lists["ExpW/label/label.lst"].append(
            f"{emotion}_{n}.jpg 0 0 0 48 48 90.5 {label}"
        )
        kind = ("cat", "dog", "bird")[n % 3]
        lists["photos/labels.csv"].append(f"{n}.webp,{kind}")
    lists["photos/labels.csv"].insert(0, "image,emotion")
    for name, lines in lists.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return folder


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture
def workplace(small_data, tmp_path, monkeypatch, own_environment):
    """A copy of the small data, as the working folder; no plots, for speed."""
    plots = "emotion_cnn.evaluation.evaluator.Evaluation.figures"
    monkeypatch.setattr(plots, lambda evaluation: {})
    folder = Path(shutil.copytree(small_data, tmp_path / "work"))
    monkeypatch.chdir(folder)
    return folder


# --- Commands and Python ---


@pytest.mark.parametrize("block", blocks_of("sh"), ids=str)
def test_commands_of_a_block_run_in_order(block, workplace, request):
    if block.document.name == "datasets.md":
        layouts = request.getfixturevalue("data_sets")
        shutil.rmtree(workplace / "photos")  # The layouts have another one.
        shutil.copytree(layouts, workplace, dirs_exist_ok=True)
    for words in shell_commands(block):
        argv = arguments(words)
        if argv is None:
            command = shlex.join(words)
            if words[0] == "mkdir":
                Path(words[1]).mkdir()
            else:
                assert command.startswith(tuple(NOT_OF_THE_TOOL)), command
        elif (mode := mode_of(argv)) in TAKES_LONG:
            with ends_once_settings_are_checked(mode):
                main(argv)
        else:
            if mode == "prepare" and "--data" in argv:
                # A reader has no such folder yet.
                shutil.rmtree(argv[argv.index("--data") + 1], ignore_errors=True)
            run(*argv)
            if block.document.name == "datasets.md":
                check_recipe(Path(argv[argv.index("--data") + 1]))


def check_recipe(data: Path) -> None:
    """Checks that all is read that should be, and that no person is on both sides."""
    record = json.loads((data / "dataset.json").read_text())
    assert record["images"] >= PEOPLE
    assert record["bad"]["count"] == 0
    counts = record["counts"]
    assert all(sum(counts[part].values()) for part in ("train", "test"))
    named = {"ck", "ck48", "jaffe_faces", "kdef_faces", "own"}
    assert bool(find_groups(data, [])) == (data.name in named)
    sides = defaultdict(set)
    for image, group in find_groups(data, []).items():
        sides[group].add(image.partition("/")[0])
    assert all(len(parts) == 1 for parts in sides.values())


def test_each_exception_is_made_use_of():
    commands = [words for block in blocks_of("sh") for words in shell_commands(block)]
    modes = {mode_of(argv) for argv in map(arguments, commands) if argv is not None}
    assert modes >= TAKES_LONG.keys()
    for start in NOT_OF_THE_TOOL:
        assert any(shlex.join(words).startswith(start) for words in commands), start


@pytest.mark.parametrize(
    "command",
    [
        command
        for start in ("python main.py", "python -m emotion_cnn", "emotion-cnn")
        for command in inline_commands(start)
    ],
)
def test_the_flags_of_a_command_in_running_text(command, own_environment):
    argv = arguments(shlex.split(command))
    if "--help" in argv:
        with pytest.raises(SystemExit, match="0"):
            main(argv)
    elif argv:
        with ends_once_settings_are_checked(*FIRST_STEPS):
            main(argv)


@pytest.mark.parametrize("command", inline_commands("python -m benchmarks"))
def test_the_flags_of_a_benchmark(command):
    module, *flags = shlex.split(command)[2:]
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    source += (ROOT / "benchmarks" / "report.py").read_text()
    for flag in flags:
        assert not flag.startswith("--") or f'"{flag}"' in source, flag


@pytest.mark.parametrize("block", blocks_of("python"), ids=str)
def test_python_runs(block, workplace):
    code = compile(block.text, str(block), "exec")
    if "emotion_cnn.train(" not in block.text:
        exec(code, {})  # noqa: S102
        return
    with ends_once_settings_are_checked("train"):
        exec(code, {})  # noqa: S102
    # What the block does with the finished run.
    known = {*dir(emotion_cnn.TrainingRun), *emotion_cnn.TrainingRun.__annotations__}
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "run":
            assert node.attr in known


def test_every_block_says_what_it_is():
    assert {block.language for block in all_blocks()} == {"sh", "python", "text"}


# --- The README ---


def test_the_readme_is_short_and_begins_with_the_two_set_up_commands():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 250
    assert [line for line in text.splitlines() if "&&" in line and "pip" in line] == [
        "python -m pip install -r requirements.txt && python main.py --mode train",
        "python -m pip install -r requirements-dev.txt && python -m pytest -n 2",
    ]


def test_the_readme_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text


# --- Links and words ---


def anchors(document: Path) -> set[str]:
    """Returns the anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize(
    "document",
    [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_and_images_lead_somewhere(document):
    link = r"(?:\]\(|src=\")([^)\"\s]+)"
    for target in re.findall(link, document.read_text()):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        path = document.parent / place if place else document
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def test_documents_and_code_use_one_word_for_one_thing():
    code = [
        path
        for folder in ("emotion_cnn", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".j2")
    ]
    found = {
        (path.relative_to(ROOT).as_posix(), match[0].lower())
        for path in (*DOCUMENTS, ROOT / "main.py", *code)
        for match in re.finditer(
            rf"(?<![\w/])({NOT_OUR_WORDS})(?![\w/])", path.read_text(), re.IGNORECASE
        )
    }
    assert found == ALLOWED_WORDS.keys()
