"""One command per measured figure; README.md says which. No part of the package."""

import os

# As the command line sets it, and before any script imports Keras.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The clone that the benchmarks are run in."""
