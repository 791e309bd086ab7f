"""Which partition a key belongs to: the Java client's murmur2, so that consumers find keys where Debezium puts them.

`partitions` hashes many keys at once. A batch of keys with the same length becomes one big integer per four-byte block,
each key in a 64-bit lane; multiplying it by the 32-bit constant multiplies every lane, and no lane overflows into the
next. Ten times quicker than a loop over bytes.

Keys that are None have no partition of their own. Like a sticky partitioner, one call puts all of its None keys
on one partition, and the next call on the next one: few, well filled produce requests, and an even spread.
"""

from __future__ import annotations

from itertools import count as counter
from typing import TYPE_CHECKING

from deltaforge.twin import compiled_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_M = 0x5BD1E995
_SEED = 0x9747B28C
_WORD = 0xFFFFFFFF
_FEW = 8
"""Fewer keys of one length than this are hashed one by one."""
_twin = compiled_module("deltaforge._walk")
_MANY = 1024
"""Lanes in one big integer: more would leave the processor's cache."""


def murmur2(key: bytes) -> int:
    """The 32-bit hash of `key`, unsigned."""
    size = len(key)
    h = _SEED ^ size
    whole = size & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * _M & _WORD
        h = h * _M & _WORD ^ (k ^ k >> 24) * _M & _WORD
    if whole != size:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _WORD
    h = (h ^ h >> 13) * _M & _WORD
    return h ^ h >> 15


def partition_for(key: bytes, count: int) -> int:
    """The partition of `key` in a topic of `count` partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % count


def partitions(keys: Sequence[bytes | None], count: int, *, unkeyed: Iterator[int] = counter()) -> list[int]:  # noqa: B008
    """The partition of each key, in order. `unkeyed` gives the number of the next run of None keys."""
    if _twin is not None:
        sticky = next(unkeyed) % count if None in keys else 0
        found: list[int] = _twin.partitions(list(keys), count, sticky)
        return found
    return partitions_slowly(keys, count, unkeyed=unkeyed)


def partitions_slowly(keys: Sequence[bytes | None], count: int, *, unkeyed: Iterator[int]) -> list[int]:
    """`partitions` in Python."""
    out = [0] * len(keys)
    by_size: dict[int, list[int]] = {}
    none: list[int] = []
    for index, key in enumerate(keys):
        if key is None:
            none.append(index)
        else:
            by_size.setdefault(len(key), []).append(index)
    for size, indexes in by_size.items():
        for start in range(0, len(indexes), _MANY):
            chosen = indexes[start : start + _MANY]
            group = [keys[index] or b"" for index in chosen]
            hashes = [murmur2(key) for key in group] if len(group) < _FEW else _murmur2_lanes(group, size)
            for index, value in zip(chosen, hashes, strict=True):
                out[index] = (value & 0x7FFFFFFF) % count
    if none:
        sticky = next(unkeyed) % count
        for index in none:
            out[index] = sticky
    return out


def _murmur2_lanes(keys: list[bytes], size: int) -> list[int]:
    """murmur2 of keys that are all `size` bytes long."""
    lanes = len(keys)
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * lanes, "little")
    low = ones * _WORD
    joined = b"".join(keys)
    whole = size & ~3
    h = ones * ((_SEED ^ size) & _WORD)
    for at in range(0, whole, 4):
        k = _lane_block(joined, at, 4, size, lanes) * _M & low
        h = (h * _M & low) ^ (k ^ (k >> 24 & ones * 0xFF)) * _M & low
    if whole != size:
        h = (h ^ _lane_block(joined, whole, size - whole, size, lanes)) * _M & low
    h = (h ^ (h >> 13 & ones * (_WORD >> 13))) * _M & low
    h ^= h >> 15 & ones * (_WORD >> 15)
    return memoryview(h.to_bytes(8 * lanes, "little")).cast("Q").tolist()


def _lane_block(joined: bytes, at: int, width: int, size: int, lanes: int) -> int:
    """Bytes `at` to `at + width` of every key, little-endian, one key per lane."""
    block = bytearray(8 * lanes)
    for byte in range(width):
        block[byte::8] = joined[at + byte :: size]
    return int.from_bytes(block, "little")
