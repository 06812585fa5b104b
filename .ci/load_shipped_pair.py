"""Loads the pair in a folder by plain Keras and prints its predictions as JSON.

Usage: load_shipped_pair.py FOLDER [EXPECTED]. EXPECTED is a file with what another
version of Keras printed: predictions that differ from it are an error. Imports nothing
of emotion_cnn, so that it runs where only Keras, a backend and h5py are installed.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

folder = Path(sys.argv[1])
network = keras.models.model_from_json((folder / "model.json").read_text())
network.load_weights(folder / "model_weights.h5")

images = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 1)).astype("float32")
probabilities = network.predict(images, verbose=0)
np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
if len(sys.argv) > 2:
    expected = json.loads(Path(sys.argv[2]).read_text())
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
print(json.dumps(probabilities.tolist()))
