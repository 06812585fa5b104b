"""Checks that the sizes in a network do not depend on the images.

Otherwise the memory that it takes for some images could not be known from a trial with
others.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

ALL_BUT_FIRST = slice(1, None)
"""Of what most operations take, those that decide the size of the result, if any."""
_RESHAPING = ("Reshape", "RESHAPE")


def check_sizes(
    nodes: Iterable[tuple[str, Sequence[Hashable], Sequence[Hashable]]],
    *,
    fixed: Iterable[Hashable],
    sizes: Mapping[str, slice],
    shapes: Collection[str],
) -> None:
    """Checks what decides the size of a result: constants alone may.

    Args:
        nodes: The operation of each, what it takes, and its results, in the order in
            which they are computed.
        fixed: The constants among what they take.
        sizes: Which of what an operation takes decide the size of its result.
        shapes: Operations whose results are sizes.

    Raises:
        ValueError: A size depends on pixels, or on the number of images other than
            through a reshaping, which adds nothing; or a result has two origins.
    """
    constants, derived = set(fixed), set[Hashable]()
    seen = set(constants)
    for operation, taken, results in nodes:
        for each in taken[sizes[operation]] if operation in sizes else ():
            if each not in constants and not (
                operation in _RESHAPING and each in derived
            ):
                raise ValueError(f"sizes that depend on the images in {operation}")
        if not seen.isdisjoint(results):
            raise ValueError("a result of two operations")
        seen.update(results)
        if operation in shapes:
            derived.update(results)
        elif constants.issuperset(taken):
            constants.update(results)
        elif all(each in constants or each in derived for each in taken):
            derived.update(results)
