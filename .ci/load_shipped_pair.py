"""Loads a pair with plain Keras, and saves its predictions or compares with them.

`load_shipped_pair.py FOLDER --save FILE` on one Keras, `--compare FILE` on another.
It imports nothing of emotion_cnn, so that any Keras can run it.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="with model.json and model_weights.h5")
action = parser.add_mutually_exclusive_group(required=True)
action.add_argument("--save", type=Path, metavar="FILE")
action.add_argument("--compare", type=Path, metavar="FILE")
arguments = parser.parse_args()

model = keras.models.model_from_json((arguments.folder / "model.json").read_text())
model.load_weights(arguments.folder / "model_weights.h5")
faces = np.random.default_rng(0).uniform(0, 255, (8, 48, 48, 1)).astype("float32")
outputs = keras.tree.flatten(model.predict(faces, verbose=0))
predictions = np.concatenate([np.reshape(each, (8, -1)) for each in outputs], axis=1)

if arguments.save:
    np.save(arguments.save, predictions)
else:
    np.testing.assert_allclose(predictions, np.load(arguments.compare), atol=1e-5)
print(f"Keras {keras.__version__}: predictions of shape {predictions.shape}")
