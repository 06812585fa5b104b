"""One of several equal parts of some work, each for a process of its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from emotion_cnn.errors import ConfigError

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Shard:
    """A part of a sequence: every `count`-th item, from the `number`-th on."""

    number: int
    count: int

    def __str__(self) -> str:
        """Returns what `parse_shard` reads."""
        return f"{self.number}/{self.count}"

    def of(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Returns the items of this part; the parts together are all, each once."""
        return items[self.number - 1 :: self.count]


WHOLE = Shard(1, 1)
"""All of it."""


def parse_shard(text: str) -> Shard:
    """Returns the part that a text such as `3/16` names.

    Raises:
        ConfigError: It is not such a text, or not one of so many parts.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(
            "`shard` is a part of so many, 1/16 to 16/16 for example; found "
            f"{text[:50]!a}."
        )
    return Shard(int(match[1]), int(match[2]))
