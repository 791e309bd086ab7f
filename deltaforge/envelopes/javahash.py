"""The order in which Java's HashMap gives its String keys back.

Debezium prints such maps as they iterate: the data collections of a transaction's END, the pairs of an `hstore`.
Not copied: a bucket of nine or more keys becomes a tree in Java, whose order is another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_SIZE = 16


def java_hash(text: str) -> int:
    """`String.hashCode()` as an unsigned 32-bit number; it counts UTF-16 units."""
    units = text.encode("utf-16-le", "surrogatepass")
    found = 0
    for at in range(0, len(units), 2):
        found = (found * 31 + (units[at] | units[at + 1] << 8)) & 0xFFFFFFFF
    return found


def hash_map_size(count: int, size: int = FIRST_SIZE) -> int:
    """The buckets of a HashMap of `size` buckets after `count` keys were put into it. They never become fewer."""
    while count * 4 > size * 3:
        size *= 2
    return size


def hash_map_order(keys: Iterable[str], size: int = FIRST_SIZE) -> list[str]:
    """`keys`, put into an empty HashMap in the given order, in the order it iterates. Repeated keys count once.

    Args:
      size: its buckets; what was cleared keeps those it had.
    """
    distinct = list(dict.fromkeys(keys))
    size = hash_map_size(len(distinct), size)
    return sorted(distinct, key=lambda key: _bucket(java_hash(key), size))


def _bucket(found: int, size: int) -> int:
    return (found ^ found >> 16) & (size - 1)
