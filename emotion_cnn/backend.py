"""Which Keras backend runs, chosen before Keras is imported.

Keras takes its backend and defaults from the environment and from the user's
`keras.json`. The tool sets what it relies on, so that a `keras.json` written for
other work cannot break a run.
"""

import importlib.util
import os
import sys
from contextlib import ExitStack

from emotion_cnn.errors import ConfigError, MissingPackageError
from emotion_cnn.extras import check_installed, hidden
from emotion_cnn.quiet import quiet_start

BACKENDS = ("tensorflow", "jax", "torch")

# What Keras imports where it is installed, for features of its own that few use: half
# of the time that it takes. TensorFlow does so with the others.
_FOR_KERAS_ALONE = ("IPython", "matplotlib", "pandas", "sklearn")
_FOR_TENSORFLOW_ALONE = ("jax", "scipy")


def use_backend(
    name: str | None = None, *, lean: bool = False, quiet: bool = False
) -> str:
    """Makes Keras run on a backend from now on.

    Args:
        name: One of `BACKENDS`; None for the one that Keras already runs on in this
            process, else that of the environment variable `KERAS_BACKEND`, else the
            first that is installed.
        lean: Whether Keras, if it is not imported yet, is imported without pandas,
            scikit-learn, Matplotlib and the like, which takes half the time. All of
            them can be imported afterwards, but what Keras itself does with them fails
            in this process: for a command that only predicts.
        quiet: Whether TensorFlow is started too, and what it prints at every start left
            out: for commands, whose errors would be buried. In a notebook settings of
            TensorFlow's own may have to come before its start.

    Returns:
        The backend.

    Raises:
        MissingPackageError: It is not installed, or none is.
        ConfigError: It is unknown, or Keras runs on another one already.
    """
    running = _running_backend()
    name = name or running or os.environ.get("KERAS_BACKEND") or _first_installed()
    if name not in BACKENDS:
        raise ConfigError(
            f"Expected one of {', '.join(BACKENDS)} as Keras' backend; found {name!r}. "
            "Choose one with `backend`, or by the environment variable KERAS_BACKEND."
        )
    if running and running != name:
        raise ConfigError(
            f"Expected to run on {name}, but Keras already runs on {running} in this "
            "process, and cannot change. Start a new process (in a notebook: restart "
            f"the kernel), or choose `backend={running}`."
        )
    check_installed(name, extra=name)
    os.environ["KERAS_BACKEND"] = name
    # onnxruntime, where something imports it, reports its use from 1.29 on.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    is_tensorflow = name == "tensorflow"
    others = _FOR_TENSORFLOW_ALONE if is_tensorflow else ()
    with ExitStack() as stack:
        if is_tensorflow and quiet and not running:
            stack.enter_context(quiet_start())
        # TensorFlow prints its build options at every start unless told not to.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        stack.enter_context(hidden([*_FOR_KERAS_ALONE, *others] if lean else []))
        _set_defaults()
        if is_tensorflow and quiet:
            import tensorflow as tf

            # Finds its devices now, and says what there is not, rather than later.
            tf.config.list_logical_devices()
    return name


def can_run_keras() -> bool:
    """Returns whether Keras and one of its backends are installed."""
    return bool(importlib.util.find_spec("keras")) and any(
        importlib.util.find_spec(name) for name in BACKENDS
    )


def _running_backend() -> str | None:
    if "keras" not in sys.modules:
        return None
    import keras

    return keras.backend.backend()


def _first_installed() -> str:
    for name in BACKENDS:
        if importlib.util.find_spec(name):
            return name
    raise MissingPackageError(
        f"Expected one of Keras' backends, {', '.join(BACKENDS)}, to be installed, "
        f"found none. Install one: pip install {BACKENDS[0]} (each is an extra of "
        f"emotion-cnn, such as `[{BACKENDS[0]}]`)."
    )


def _set_defaults() -> None:
    try:
        import keras
    except (ValueError, TypeError, AttributeError, AssertionError) as error:
        raise ConfigError(
            "Expected a keras.json that Keras can read, in ~/.keras or where the "
            f"environment variable KERAS_HOME says; found one that stops it: {error}. "
            "Fix it, or remove it."
        ) from error
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)
