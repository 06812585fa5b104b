"""Several training steps in one call of a device that is faster than Python.

A step of a small network takes a GPU two milliseconds, about as long as Keras takes to
start one on JAX.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import keras

_STEPS = 16
"""Enough to hide what a call costs; few enough to notice Ctrl-C at once."""


def steps_per_execution() -> int:
    """Returns how many training steps a call runs.

    One on a CPU, outside JAX, and on several devices, whose batches are in parts.
    """
    if keras.backend.backend() != "jax" or keras.distribution.distribution():
        return 1
    import jax

    return 1 if jax.default_backend() == "cpu" else _STEPS


def loop_on_device(model: keras.Model) -> None:
    """Makes a model run the steps of an execution in one loop on the device.

    Keras on JAX runs them one by one from Python.

    Args:
        model: A compiled model, on JAX. Its batches must be of one shape.
    """

    def make_train_function(force: bool = False) -> None:
        if force or model.train_function is None:
            model.train_function = _train_function(model)

    model.make_train_function = make_train_function


def _train_function(model: keras.Model) -> Any:
    """Returns what `fit` calls with its state and an iterator over the batches."""
    import jax
    from jax import numpy as jnp

    most = model.steps_per_execution

    def run(state: Any, batches: list[Any], count: Any) -> Any:
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *batches)

        def step(place: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            return model.train_step(
                carried[1], jax.tree.map(lambda array: array[place], stacked)
            )

        logs, _ = jax.eval_shape(model.train_step, state, batches[0])
        logs = jax.tree.map(lambda value: jnp.zeros(value.shape, value.dtype), logs)
        return jax.lax.fori_loop(0, count, step, (logs, state))

    compiled = jax.jit(run, donate_argnums=0)

    ahead: WeakKeyDictionary[Iterator[Any], Future[list[Any]]] = WeakKeyDictionary()

    def train_function(state: Any, iterator: Iterator[Any]) -> Any:
        made = ahead.pop(iterator, None)
        batches = made.result() if made else []
        # Where there is none left, `fit` expects StopIteration.
        batches = batches or [next(iterator), *islice(iterator, most - 1)]
        count = len(batches)
        # One program for any number of steps: those beyond `count` are not run.
        result = compiled(state, batches + batches[-1:] * (most - count), count)
        # The next batches are made while the device computes: `fit` waits for it. An
        # error is raised by the next call, as `fit` would lose what this one returns.
        ahead[iterator] = made = Future()
        try:
            made.set_result(list(islice(iterator, most)))
        except BaseException as error:
            made.set_exception(error)
        return result

    return train_function
