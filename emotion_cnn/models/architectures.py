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


def _residual(*filters: int, dense: int) -> Architecture:
    """Returns a residual network with these filters in its four blocks."""
    blocks = zip(filters, (2, 2, 3, 3), strict=True)
    return Architecture(
        blocks=tuple(count * (Convolution(each),) for each, count in blocks),
        dense=(dense, dense),
        dropout=0.1,
        dense_dropout=0.3,
        residual=True,
        squeeze=8,
        average=True,
        bias=False,
    )


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
    "residual": _residual(32, 64, 160, 320, dense=256),
    # A quarter of its weights and multiplications.
    "residual-narrow": _residual(16, 32, 80, 160, dense=128),
    # Four times as many, to be trained on a GPU.
    "residual-wide": _residual(64, 128, 320, 640, dense=512),
}
"""The networks by name."""
