"""The networks, as data."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Convolution:
    """One convolution of a block: `filters` kernels, `kernel` pixels square."""

    filters: int
    kernel: int = 3


@dataclass(frozen=True)
class Architecture:
    """A network as data.

    Attributes:
        blocks: The convolutions of each block; a block ends with 2x2 max-pooling and
            dropout.
        dense: Units of each dense block.
        dropout: Share of activations dropped after every convolution block.
        dense_dropout: The same after every dense block.
        residual: Whether the output of a block's first convolution is added to that
            of its last one (He et al. 2015, arXiv 1512.03385).
        squeeze: Reduction ratio of squeeze-and-excitation (Hu et al. 2017, arXiv
            1709.01507); 0 for none.
        average: Whether global average pooling stands before the dense blocks, in
            place of flattening. Such a network takes images of any size, so it can
            begin at a low resolution.
        bias: Whether convolutions have a bias, which the batch normalisation
            after them cancels.
    """

    blocks: tuple[tuple[Convolution, ...], ...]
    dense: tuple[int, ...]
    dropout: float = 0.25
    dense_dropout: float = 0.25
    residual: bool = False
    squeeze: int = 0
    average: bool = False
    bias: bool = True


ARCHITECTURES: Mapping[str, Architecture] = {
    "baseline": Architecture(
        blocks=(
            (Convolution(64),),
            (Convolution(128, kernel=5),),
            (Convolution(512),),
            (Convolution(512),),
        ),
        dense=(256, 512),
    ),
    "compact": Architecture(
        blocks=tuple((Convolution(f), Convolution(f)) for f in (16, 32, 64, 128)),
        dense=(256, 128),
    ),
    "residual": Architecture(
        blocks=tuple(
            count * (Convolution(filters),)
            for filters, count in ((32, 2), (64, 2), (160, 3), (320, 3))
        ),
        dense=(256, 256),
        dropout=0.1,
        dense_dropout=0.3,
        residual=True,
        squeeze=8,
        average=True,
        bias=False,
    ),
}
"""The networks by name."""
