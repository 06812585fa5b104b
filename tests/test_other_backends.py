"""Some tests once more, on the backends that the others do not use."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_and_explaining_on_other_backends(jax_environment, backend):
    """The same tests as on TensorFlow, a few of them."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    chosen = "(resumed_equals and (last or 1-2)) or counters_of or stops_at_its_batch"
    chosen += " or speaks_for_a_class_is_found or _a_loop"
    tests = [
        str(Path(__file__).with_name(name))
        for name in (
            "test_training.py",
            "test_recipes.py",
            "test_explanation.py",
            "test_device_loop.py",
        )
    ]
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(*tests, "-k", chosen),
        ],
        cwd=CHECKOUT,
        env=os.environ
        | {"KERAS_BACKEND": backend, "PYTHONDONTWRITEBYTECODE": "1"}
        | jax_environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stdout
    # Steps in a loop are for JAX alone.
    count = 17 if backend == "jax" else 13
    assert f"{count} passed" in finished.stdout
