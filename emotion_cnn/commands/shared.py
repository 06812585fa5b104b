"""Settings that several modes have, and help texts of such."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.errors import ConfigError
from emotion_cnn.inference.defaults import UNSURE_BELOW
from emotion_cnn.models.input_range import INPUT_RANGES
from emotion_cnn.settings import setting

if TYPE_CHECKING:
    from emotion_cnn.data.cache import ImageCache
    from emotion_cnn.inference.classifier import Classifier

DATA_HELP = (
    "folder with train/ and test/, each with a folder per class; "
    f"'{SAMPLE_DATA}' for the built-in drawn faces"
)
CLASSES_HELP = (
    "the classes, such as angry,happy,tired: images of others are left out; without it "
    "all that the data folder has images of"
)
SKIP_BAD_HELP = "leave damaged images out instead of stopping at them"
BACKEND_HELP = (
    "Keras backend; without it the one that the environment variable KERAS_BACKEND "
    "names, else the first that is installed"
)
NETWORK_HELP = (
    "folder with model.json and model_weights.h5 (a run, or a name below --runs), or "
    "an exported network: a .onnx or .tflite file, the folder of an OpenVINO network "
    "or of a saved model"
)
RUNS_HELP = "folder that gets a folder per run"
LABELS_HELP = (
    "which labels: those of the folders, or the majority of FER+'s votes, from the "
    "votes.csv that --mode prepare --ferplus writes"
)


SEED, VALIDATION_SHARE = 42, 0.1


def weights() -> Any:
    """Declares the setting `weights`, of a network that classifies."""
    return setting(
        None,
        f"{NETWORK_HELP}; without it the pair in the working folder, else the shipped "
        "one, or an exported file beside it of the same weights",
        metavar="PATH",
        group="network",
    )


def faces(*, group: str | None = None) -> Any:
    """Declares the setting `faces`."""
    return setting(
        "detect",
        "detect the faces in each image, or take each image as one face, cropped as "
        "FER2013's are",
        choices=("detect", "cropped"),
        group=group,
    )


def unsure_below() -> Any:
    """Declares the setting `unsure_below`."""
    return setting(
        UNSURE_BELOW,
        "where no emotion is this probable, the face is unsure; the default is right "
        "for the shipped network, by original labels",
        minimum=0,
        maximum=1,
        metavar="PROBABILITY",
    )


def class_order() -> Any:
    """Declares the setting `class_order`."""
    return setting(
        None,
        "the classes in the order of the outputs, such as angry,happy,tired, of a "
        "network of another tool, whose model.json does not say; without it FER2013's "
        "seven",
        metavar="NAMES",
        is_path=False,
    )


def input_range() -> Any:
    """Declares the setting `input_range`."""
    return setting(
        None,
        "what pixels such a network was trained on; without it 0-255",
        choices=tuple(INPUT_RANGES),
    )


def validation_share() -> Any:
    """Declares the setting `validation_share`."""
    return setting(
        VALIDATION_SHARE,
        "share of train/ held out for validation where there is no validation/ and "
        "the file names do not carry FER2013's PublicTest",
        minimum=0.01,
        maximum=0.5,
    )


def seed() -> Any:
    """Declares the setting `seed`."""
    return setting(SEED, "fixes every random choice", minimum=0, maximum=2**31 - 1)


def cache() -> Any:
    """Declares the setting `cache`."""
    return setting(
        None,
        "folder for decoded images, so that the next command need not decode them; "
        "without it `emotion-cnn` in the user's cache folder (~/.cache on Linux)",
        metavar="FOLDER",
    )


def no_cache() -> Any:
    """Declares the setting `no_cache`."""
    return setting(False, "do not use or write the cache of decoded images")


def image_cache(cache: str | None, no_cache: bool) -> "ImageCache | None":
    """Returns where decoded images are kept, by the settings of these names.

    Raises:
        ConfigError: Both are given.
    """
    if no_cache and cache is not None:
        raise ConfigError(
            "`cache` and `no_cache=True` exclude each other. Leave one of them out."
        )
    from emotion_cnn.data.cache import ImageCache, default_folder

    folder = default_folder() if cache is None else Path(cache)
    return None if no_cache or folder is None else ImageCache(folder)


def find_network(reference: str, runs: str) -> Path:
    """Returns where the network is that `weights` names.

    Args:
        reference: A run, by its folder or its name below `runs`; another folder; or an
            exported file.
        runs: Folder of the runs.

    Raises:
        RunError: There is no such run or folder.
    """
    from emotion_cnn.inference.backends import KERAS, kind_of
    from emotion_cnn.training.run_folder import run_or_folder

    path = Path(reference)
    if kind_of(path) != KERAS:
        return path
    return run_or_folder(reference, Path(runs))


def choose_backend(
    weights: str | None, backend: str | None, *, lean: bool = False
) -> None:
    """Makes Keras run on a backend, if it runs the network; else imports no Keras.

    Args:
        weights: The setting `weights`; None for a pair.
        backend: The setting `backend`.
        lean: As for `use_backend`.

    Raises:
        ConfigError: A backend is given, and Keras does not run the network; or as for
            `use_backend`.
        MissingPackageError: As for `use_backend`.
    """
    from emotion_cnn.backend import use_backend
    from emotion_cnn.inference.backends import KERAS, kind_of

    if weights is None or kind_of(Path(weights)) == KERAS:
        use_backend(backend, lean=lean, quiet=True)
    elif backend is not None:
        raise ConfigError(
            "`backend` is for networks that Keras runs, of model.json and "
            f"model_weights.h5; found `backend={backend}` for an exported one, which "
            "its own runtime runs. Leave it out."
        )


def load_classifier(
    *,
    weights: str | None,
    runs: str,
    backend: str | None,
    class_order: str | None,
    input_range: str | None,
    explains: bool,
) -> "Classifier":
    """Returns what classifies, by the settings of these names.

    Args:
        weights: A network; None for the one in the working folder, else the shipped
            one. An exported one beside it is taken, which starts soonest, unless one
            of the next three is given.
        runs: Folder of the runs.
        backend: Of Keras.
        class_order: The classes of another tool's network.
        input_range: What such a network expects.
        explains: Whether LayerCAM is needed, for which an exported network needs the
            pair beside it, and Keras. Else it explains by occlusion alone.

    Raises:
        EmotionCnnError: The network cannot be used.
    """
    from emotion_cnn.inference.backends.beside_pair import read_beside_pair
    from emotion_cnn.inference.classifier import Classifier, load
    from emotion_cnn.models.shipped import default_folder

    path, light = default_folder(), None
    if weights is not None:
        path = find_network(weights, runs)
    elif backend is None and class_order is None and input_range is None:
        light = read_beside_pair(path)
    if light is None:
        # No command needs what is left out so.
        choose_backend(weights, backend, lean=True)
        return load(path, class_order=class_order, input_range=input_range)
    classifier = Classifier(light, pair=path if explains else None)
    if "layercam" in classifier.explanation_methods:
        choose_backend(None, None, lean=True)
    return classifier
