"""Checks that the sizes in a network do not depend on the pixels.

Otherwise the memory that it takes for some images could not be known from a trial with
others.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

ALL_BUT_FIRST = slice(1, None)
"""Of what most operations take, those that decide the size of the result, if any."""


def check_sizes(
    nodes: Iterable[tuple[str, Sequence[Hashable], Sequence[Hashable]]],
    *,
    fixed: Iterable[Hashable],
    sizes: Mapping[str, slice],
    shapes: Collection[str],
) -> None:
    """Checks what decides the size of a result: constants and sizes alone may.

    Args:
        nodes: The operation of each, what it takes, and its results, in the order in
            which they are computed.
        fixed: The constants among what they take.
        sizes: Which of what an operation takes decide the size of its result.
        shapes: Operations whose results are sizes.

    Raises:
        ValueError: A size depends on pixels, or a result has two origins.
    """
    known = set(fixed)
    seen = set(known)
    for operation, taken, results in nodes:
        if operation in sizes and not known.issuperset(taken[sizes[operation]]):
            raise ValueError(f"sizes that depend on the pixels in {operation}")
        if not seen.isdisjoint(results):
            raise ValueError("a result of two operations")
        seen.update(results)
        if operation in shapes or known.issuperset(taken):
            known.update(results)
