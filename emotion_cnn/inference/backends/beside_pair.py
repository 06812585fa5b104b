"""An exported network beside the pair that it was made of: the light default.

It answers as the pair does, and starts in a fraction of the time, without Keras.
"""

import importlib
import importlib.util
import logging
from pathlib import Path

from emotion_cnn.errors import EmotionCnnError
from emotion_cnn.inference.backends import exported, kind_of
from emotion_cnn.models.pair_files import open_pair
from emotion_cnn.models.shipped import EXPORTED_NAMES, shipped_folder

_log = logging.getLogger(__name__)


def read_beside_pair(folder: Path) -> exported.ExportedNetwork | None:
    """Reads the exported network in the folder of a pair.

    Args:
        folder: A folder with `model.json` and `model_weights.h5`.

    Returns:
        The first of `EXPORTED_NAMES` that is there, whose runtime is installed, and
        that was made of the very weights of the pair; None if there is none.

    Raises:
        ModelError: There is one, but no whole pair.
    """
    for path in (folder / name for name in EXPORTED_NAMES):
        module = importlib.import_module(f"{exported.__package__}.{kind_of(path)}")
        if not (path.is_file() and importlib.util.find_spec(module.PACKAGE)):
            continue
        with open_pair(folder) as pair:
            digest = pair.digest
        is_shipped = folder.resolve() == shipped_folder().resolve()
        try:
            return exported.read(
                path, module, source_sha256=digest, is_trusted=is_shipped
            )
        # Also a runtime that cannot be imported: the pair needs none.
        except EmotionCnnError as error:
            _log.info("Not used: %s", error)
    return None
