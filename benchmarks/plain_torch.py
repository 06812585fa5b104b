"""The tool's networks in plain Torch, and a loop that trains them on a CPU.

This is what somebody would write who has no use for Keras, the fast way: images
in memory, channels last, nothing measured but the loss.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.splits import Split
from emotion_cnn.models.architectures import ARCHITECTURES, Architecture, Convolution
from emotion_cnn.training.recipes import Recipe


class SqueezeAndExcitation(nn.Module):
    """Weighs channels by what is in all of them (arXiv 1709.01507)."""

    def __init__(self, channels: int, reduction: int) -> None:
        """Narrows so many channels by `reduction` in between."""
        super().__init__()
        narrow = max(1, channels // reduction)
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, narrow),
            nn.ReLU(inplace=True),
            nn.Linear(narrow, channels),
            nn.Sigmoid(),
            nn.Unflatten(1, (channels, 1, 1)),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Takes and returns (batch, channels, height, width)."""
        return inputs * self.weights(inputs)


class Block(nn.Module):
    """The convolutions before a halving of the image; see `Architecture`."""

    def __init__(
        self,
        channels: int,
        convolutions: tuple[Convolution, ...],
        architecture: Architecture,
    ) -> None:
        """Builds a block of an architecture for so many channels."""
        super().__init__()
        self.residual = architecture.residual
        self.convolutions = nn.ModuleList()
        for convolution in convolutions:
            self.convolutions.append(
                nn.Sequential(
                    nn.Conv2d(
                        channels,
                        convolution.filters,
                        convolution.kernel,
                        padding="same",
                        bias=architecture.bias,
                    ),
                    nn.BatchNorm2d(convolution.filters),
                )
            )
            channels = convolution.filters
        if architecture.squeeze:
            self.convolutions[-1].append(
                SqueezeAndExcitation(channels, architecture.squeeze)
            )
        self.end = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(architecture.dropout))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Takes (batch, channels, height, width), returns half of both sides."""
        first, *others = self.convolutions
        outputs = shortcut = functional.relu(first(inputs), inplace=True)
        for convolution in others:
            outputs = convolution(outputs)
            if self.residual and convolution is others[-1]:
                outputs = outputs + shortcut
            outputs = functional.relu(outputs, inplace=True)
        return self.end(outputs)


def build_network(architecture: Architecture) -> nn.Module:
    """Builds what `emotion_cnn.models.builder.build_model` builds, up to the logits.

    Args:
        architecture: One of `emotion_cnn.models.architectures.ARCHITECTURES`.

    Returns:
        A module from images (batch, 1, 48, 48) in 0-1 to logits (batch, 7).
    """
    modules: list[nn.Module] = []
    channels = 1
    for convolutions in architecture.blocks:
        modules.append(Block(channels, convolutions, architecture))
        channels = convolutions[-1].filters
    if architecture.average:
        modules.append(nn.AdaptiveAvgPool2d(1))
        inputs = channels
    else:
        inputs = channels * (IMAGE_SIZE // 2 ** len(architecture.blocks)) ** 2
    modules.append(nn.Flatten())
    for units in architecture.dense:
        modules += [
            nn.Linear(inputs, units),
            nn.BatchNorm1d(units),
            nn.ReLU(inplace=True),
            nn.Dropout(architecture.dense_dropout),
        ]
        inputs = units
    return nn.Sequential(*modules, nn.Linear(inputs, len(EMOTIONS)))


class PlainTraining:
    """A network in training: Adam, cross entropy, images flipped at random."""

    def __init__(self, recipe: Recipe) -> None:
        """Begins with random weights; takes network, batch and rate from a recipe."""
        network = build_network(ARCHITECTURES[recipe.model])
        self._network = network.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(
            network.parameters(), lr=recipe.learning_rate
        )
        self._batch_size = recipe.batch_size

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(each.numel() for each in self._network.parameters())

    def seconds_of_epoch(self, split: Split) -> float:
        """Trains on every image once, in random order."""
        pixels = torch.from_numpy(np.asarray(split.images)).permute(0, 3, 1, 2)
        labels = torch.from_numpy(split.labels)
        start = time.perf_counter()
        for places in torch.randperm(len(split)).split(self._batch_size):
            images = pixels[places]
            flipped = torch.rand(len(places), 1, 1, 1) < 0.5
            images = torch.where(flipped, images.flip(3), images)
            images = images.contiguous(memory_format=torch.channels_last) / 255
            loss = functional.cross_entropy(self._network(images), labels[places])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        return time.perf_counter() - start
