"""Which parts of a face speak for an emotion: LayerCAM, and occlusion.

Both are about the single view of an image, and return maps from 0, what does not speak
for the emotion, to 1, what speaks for it most.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from emotion_cnn.errors import ModelError
from emotion_cnn.models.description import Network
from emotion_cnn.models.input_range import scaled

PATCH, STRIDE = 9, 4
"""Height and width of what is hidden, and the step to the next, of 48 pixels."""

_STAGE = 2
_OPACITY = 0.8
_LEAST = 1e-30


class LayerCAM:
    """Explains by the gradients at a layer half the image's size (24x24 of 48x48).

    P.-T. Jiang, C.-B. Zhang, Q. Hou, M.-M. Cheng, Y. Wei, "LayerCAM: Exploring
    hierarchical class activation maps for localization", IEEE Transactions on Image
    Processing 30, 2021: the activations of the layer, each times its gradient where
    that is positive, summed over the channels. The layer is the last with maps of at
    least half the image's height and width. The gradient is that of the emotion's log
    odds, log(p / (1 - p)): it points where that of the log-probability does, and has
    digits left where p is near 1.
    """

    def __init__(self, network: Network) -> None:
        """Takes the network apart; the parts share its layers and weights.

        Raises:
            ModelError: There is no such layer, or what follows depends on others too.
        """
        self._description = network.description
        self._before, self._after = _split(network)
        self._gradients = _gradient_function(self._after)

    def __call__(self, image: np.ndarray, *, emotion: str, labels: str) -> np.ndarray:
        """Explains one image.

        Args:
            image: uint8 `(size, size)`, gray levels.
            emotion: One of the network's classes.
            labels: One of its label sets.

        Returns:
            float32 `(size, size)`, resized bilinearly, from 0 to 1; zeros if nothing
            speaks for the emotion.
        """
        from keras import ops

        description = self._description
        size, classes = image.shape[0], len(description.classes)
        chosen = np.zeros((len(description.label_sets), classes), np.float32)
        others = chosen.copy()
        head = description.label_sets.index(labels)
        others[head] = 1
        others[head, description.classes.index(emotion)] = 0
        chosen[head] = 1 - others[head]
        pixels = ops.convert_to_tensor(image.reshape(1, size, size, 1), "float32")
        activations = self._before(
            scaled(pixels, description.input_range), training=False
        )
        gradients = self._gradients(activations, chosen.ravel(), others.ravel())
        weighted = ops.relu(activations) * ops.relu(gradients)
        return _as_map(ops.convert_to_numpy(ops.sum(weighted[0], axis=-1)), size)


def occlusion(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, *, place: int
) -> np.ndarray:
    """Explains by hiding a patch at a time, which works with whatever predicts.

    A square of the image's mean is moved over it (M. D. Zeiler, R. Fergus, "Visualizing
    and understanding convolutional networks", ECCV 2014): `PATCH` pixels of 48 wide,
    moved by `STRIDE`, also half beyond the edges. Each pixel is given the mean of how
    much the emotion's log odds fall when it is hidden, where they do.

    Args:
        predict: Returns probabilities `(n, classes)` of uint8 `(n, size, size)`.
        image: uint8 `(size, size)`, gray levels.
        place: Which class is explained.

    Returns:
        float32 `(size, size)`, from 0 to 1; zeros if hiding nothing matters.
    """
    size = image.shape[0]
    patch, stride = max(1, PATCH * size // 48), max(1, STRIDE * size // 48)
    starts = range(-(patch // 2), size - patch // 2, stride)
    places = [
        (slice(max(0, top), top + patch), slice(max(0, left), left + patch))
        for top in starts
        for left in starts
    ]
    images = np.repeat(image[np.newaxis], 1 + len(places), axis=0)
    for hidden, at in zip(images[1:], places, strict=True):
        hidden[at] = round(float(image.mean()))
    probabilities = np.maximum(predict(images), _LEAST)
    others = np.delete(probabilities, place, axis=1).sum(axis=1)
    log_odds = np.log(probabilities[:, place]) - np.log(others)
    total, count = np.zeros((2, size, size))
    for at, value in zip(places, log_odds[1:], strict=True):
        total[at] += log_odds[0] - value
        count[at] += 1
    return _as_map(np.maximum(total / np.maximum(count, 1), 0), size)


def heat_map(image: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Returns a face with an explanation over it.

    Args:
        image: uint8 `(size, size)`, gray levels, or RGB `(size, size, 3)`.
        relevance: float32 `(size, size)`, from 0 to 1, as `Face.explain` returns it.

    Returns:
        uint8 RGB `(size, size, 3)`.
    """
    from matplotlib import colormaps

    gray = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=-1)
    colors = 255 * colormaps["inferno"](relevance)[..., :3]
    # What says nothing stays as it is.
    opacity = _OPACITY * relevance[..., np.newaxis]
    return ((1 - opacity) * gray + opacity * colors).round().astype(np.uint8)


def _split(network: Network) -> tuple[Any, Any]:
    """Returns the network up to the layer, and from there to the probabilities."""
    import keras

    model, size = network.model, network.description.input_size
    stages = [
        layer.output
        for layer in model.layers
        if len(layer.output.shape) == 4
        and layer.output.shape[1] == layer.output.shape[2]
        and layer.output.shape[1] * _STAGE >= size
        and layer.output.shape[3] > 1
    ]
    if not stages:
        raise ModelError(
            "Expected a network with a layer of several maps of at least "
            f"{size // _STAGE}x{size // _STAGE} for `layercam`, found none. Explain it "
            "by `occlusion`."
        )
    try:
        after = keras.Model(stages[-1], model.output)
    except ValueError as error:
        raise ModelError(
            "Expected all layers that follow the one of "
            f"{stages[-1].shape[1]}x{stages[-1].shape[2]} to depend on it alone for "
            "`layercam`, found some that do not. Explain the network by "
            "`occlusion`."
        ) from error
    return keras.Model(model.input, stages[-1]), after


def _gradient_function(model: Any) -> Callable[[Any, Any, Any], Any]:
    """Returns the gradient of log odds by what goes into a model, on any backend.

    It takes the input, and which outputs are on either side of the odds, as 1 and 0.
    """
    import keras
    from keras import ops

    def log_odds(outputs: Any, chosen: Any, others: Any) -> Any:
        flat = ops.reshape(outputs, (-1,))
        one, rest = (ops.sum(flat * each) for each in (chosen, others))
        return ops.log(ops.maximum(one, _LEAST)) - ops.log(ops.maximum(rest, _LEAST))

    def by_tensorflow(inputs: Any, *odds: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = log_odds(model(inputs, training=False), *odds)
        return tape.gradient(value, inputs)

    def by_torch(inputs: Any, *odds: Any) -> Any:
        import torch

        inputs = inputs.detach().requires_grad_()
        tensors = [ops.convert_to_tensor(each) for each in odds]
        value = log_odds(model(inputs, training=False), *tensors)
        return torch.autograd.grad(value, inputs)[0]

    def by_jax(inputs: Any, *odds: Any) -> Any:
        weights = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        return compiled(inputs, weights, *odds)

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        @jax.jit
        @jax.grad
        def compiled(inputs: Any, weights: Any, *odds: Any) -> Any:
            outputs, _ = model.stateless_call(*weights, inputs, training=False)
            return log_odds(outputs, *odds)

    functions = {"tensorflow": by_tensorflow, "jax": by_jax, "torch": by_torch}
    return functions[backend]


def _as_map(relevance: np.ndarray, size: int) -> np.ndarray:
    """Returns values from 0 as they are shown: resized, the greatest being 1."""
    resized = np.asarray(
        Image.fromarray(relevance.astype(np.float32)).resize(
            (size, size), Image.Resampling.BILINEAR
        )
    )
    greatest = resized.max()
    return resized / greatest if greatest > 0 else np.zeros_like(resized)
